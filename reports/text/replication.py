"""What the intervals of a table are over, and what so few repetitions cannot show."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reports.data.statistics import COVERAGE
from reports.data.summary import Entry
from reports.text.labels import listed
from reports.text.numbers import percent

FEW = 5
"""Repetitions below which a table says what they cannot show."""


def replication_notes(entries: list[Entry]) -> list[str]:
    """k of the intervals, what follows from a small one, and whose seeds share one fit."""
    return [*_over(entries), *_unseen(entries), *_single(entries), *_one_fit(entries)]


def unseen_chance(k: int) -> float:
    """The chance of a failure that k repetitions do not show one time in twenty: 1 - .05^(1/k)."""
    return 1.0 - math.pow(1 - COVERAGE, 1 / k)


def _counts(entries: list[Entry]) -> list[int]:
    """Repetitions behind the intervals: fits where there are some, else seeds."""
    found = (f for e in entries for f in e.estimates.values() if f.known)
    return sorted({f.fits or len(f.by_seed) for f in found if f.source in ("seeds", "fits")})


def _over(entries: list[Entry]) -> Iterator[str]:
    counts = _counts(entries)
    if counts:
        k = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        yield f"±: 95 % interval (t) over {k} repetitions, each the mean of one seed or one fit"


def _unseen(entries: list[Entry]) -> Iterator[str]:
    """Measured in tests/reports/test_coverage.py."""
    for k in _counts(entries)[:1]:
        if k < FEW:
            yield (
                f"with {k} repetitions an interval covers 95 % where their law is near normal and "
                "88 % where it is exponential, and of a failure that has not happened yet it knows "
                f"nothing: up to {percent(unseen_chance(k))} of runs may fail unseen"
            )


def _single(entries: list[Entry]) -> Iterator[str]:
    """Where an interval does not come from the spread over seeds, the reader has to know."""
    known = [f for e in entries for f in e.estimates.values() if f.known]
    found = {f.source for f in known}
    own = [len(f.rows) > 1 for f in known if f.source in ("cell", "none")]
    if not all(own):
        yield (
            "values of a single seed carry the interval of the cell's own standard error, if it "
            "has one"
        )
    if any(own):
        yield (
            "where seeds agree more closely than their own errors allow, the interval is that of "
            "these errors, and there is none where they are not known"
        )
    if "prompts" in found:
        yield "intervals are over prompts as well as seeds where there are several sentences"


def _one_fit(entries: list[Entry]) -> Iterator[str]:
    """A fit that several sampling seeds share is one repetition; said once of all such methods."""
    alike: dict[int, list[str]] = {}
    for entry in {e.method: e for e in entries if e.untested_fit}.values():
        alike.setdefault(int(entry.done["seed"].nunique()), []).append(f"`{entry.method}`")
    for seeds, methods in alike.items():
        whose, each = ("their", " each") if len(methods) > 1 else ("its", "")
        share = f"{seeds} sampling seeds share" if seeds > 1 else "one seed samples from"
        yield (
            f"{listed(methods)}: {whose} {share} one fit{each}, so that there is neither an "
            "interval nor a test; add the method again with another `fit_seed`"
        )
