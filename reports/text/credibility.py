"""How far a learned judge can be believed, in words: published agreement with people's choices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reports.data.summary import ProblemKey, Summary

UNMEASURED = "not published"
"""What the record says of a learned judge without figures (`bench.core.credibility`)."""


def credibility_notes(
    summary: Summary, problem: ProblemKey, metrics: Iterable[str]
) -> Iterator[str]:
    """A sentence for each metric that is learnt: the figures and their source, or that none is."""
    for metric in metrics:
        found = summary.credibility(problem, metric)
        if found.accuracy == UNMEASURED:
            yield (
                f"`{metric}` is learnt, and how often people choose as it does is not published: "
                "`bench evaluate --preferences` measures it"
            )
        elif found.accuracy:
            source = f" ({found.source})" if found.source else ""
            yield f"people choose as `{metric}` does in pairs of {found.accuracy}{source}"
