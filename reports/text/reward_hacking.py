"""Reward governance: does the held-out judge confirm what the reward says?

Every flag is a sentence with its evidence; intervals are those of `data.statistics`, 95 %,
paired by seed.  A flag is a reason to look at the samples, not a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from reports.data.marks import yardstick
from reports.data.overoptimisation import ladders, lost_share
from reports.data.statistics import Difference, difference
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.credibility import credibility_notes
from reports.text.numbers import percent, short

FlagKind = Literal[
    "unconfirmed", "judge falls", "over-optimised", "diversity", "drift", "disagreement"
]

DRIFT_SHARE = 0.1
"""Drift below this share of the base model's own value is not worth a flag."""

CLEAR = (
    "No method raised the reward while a held-out judge clearly fell, neither against the prior "
    "nor from one budget or one strength to the next."
)


@dataclass(frozen=True)
class Flag:
    """What is suspicious about a method at a budget, and the evidence in a sentence."""

    kind: FlagKind
    method: str
    budget: str
    text: str


def verdict(
    suite: Mapping[str, Any],
    summary: Summary,
    problem: ProblemKey,
    found: Sequence[Flag] | None = None,
) -> list[str]:
    """Who judges, and what they find, for the report; found: the flags, where they are known."""
    held_out = held_out_judges(suite, summary, problem)
    believed = (f"{note}." for note in credibility_notes(summary, problem, held_out))
    said = warnings(summary, problem, held_out, found)
    return [roles(suite, summary, problem), *believed, *said]


KINDS: tuple[FlagKind, ...] = (
    "unconfirmed",
    "judge falls",
    "over-optimised",
    "diversity",
    "drift",
    "disagreement",
)
"""In the order of the columns of the matrix."""


def warnings(
    summary: Summary,
    problem: ProblemKey,
    judges: Sequence[str],
    found: Sequence[Flag] | None = None,
) -> list[str]:
    """Sentences about methods whose reward and judges disagree; one sentence if none does."""
    judged = any(_known(e, judges) for e in summary.of(problem))
    found = flags(summary, problem, judges) if found is None else found
    about_judge = ("unconfirmed", "judge falls", "over-optimised")
    clear = judged and not any(flag.kind in about_judge for flag in found)
    sentences = [flag.text for flag in found] + ([CLEAR] if clear else [])
    return sentences + list(_curves(summary, problem)) + _sizes(summary, problem)


def judges_of(suite: Mapping[str, Any], problem: ProblemKey, part: str) -> tuple[str, ...]:
    """The judges that a suite names for a problem: "tuning" or "held-out"."""
    blocks = [b for b in suite.get("blocks", []) if problem.task in b["tasks"]]
    of = (name for block in blocks for name in block.get("judges", {}).get(part, []))
    return tuple(dict.fromkeys(of))


def held_out_judges(
    suite: Mapping[str, Any], summary: Summary, problem: ProblemKey
) -> tuple[str, ...]:
    """What a suite holds out, and every other metric that can judge and was not tuned on."""
    tuned, here = judges_of(suite, problem, "tuning"), summary.metrics(problem)
    others = [m for m in summary.measuring("judge") if m in here and m not in tuned]
    return tuple(dict.fromkeys([*judges_of(suite, problem, "held-out"), *others]))


def roles(suite: Mapping[str, Any], summary: Summary, problem: ProblemKey) -> str:
    """Which metric is the target, which may be tuned on, and which are held out."""
    parts = judges_of(suite, problem, "tuning"), held_out_judges(suite, summary, problem)
    tuned, apart = (", ".join(f"`{name}`" for name in part) or "none named" for part in parts)
    return f"Target: `reward`, of `{problem.reward}`. Tuning judges: {tuned}. Held out: {apart}."


def flags(summary: Summary, problem: ProblemKey, judges: Sequence[str]) -> list[Flag]:
    """All flags of a problem, those of the held-out `judges` (metrics) first."""
    entries = [e for e in summary.of(problem) if not (e.is_untilted or e.is_floor)]
    judged = [e for e in entries if _known(e, judges)]
    return [
        *_against_prior(summary, judged, judges),
        *_over_budgets(summary, problem, judged, judges),
        *_over_strengths(summary, problem, judges),
        *(flag for e in entries for flag in _less_diverse(summary, e)),
        *(flag for e in entries for flag in _drifted(summary, e)),
        *(flag for e in entries for flag in _disagreeing(summary, e)),
    ]


# -- the judge ------------------------------------------------------------------------------------


def _against_prior(summary: Summary, entries: list[Entry], judges: Sequence[str]) -> Iterator[Flag]:
    """Reward above the prior's, and a judge worse than there or none better."""
    for entry in entries:
        prior = summary.base(entry)
        if prior is None:
            continue
        reward = difference(entry.estimate("reward"), prior.estimate("reward"), as_drawn=True)
        if not _above(reward):
            continue
        verdicts = _verdicts(summary, entry, prior, judges)
        start = f"`{entry.method}`{_at(entry)}: the reward rises by {short(reward.mean)} over the "
        for verdict in (v for v in verdicts if v.worse):
            text = f"{start}prior's while {verdict.told}."
            yield Flag("judge falls", entry.method, entry.budget, text)
        if not any(v.worse or v.better for v in verdicts):
            seen = ", ".join(_change(v.gap) for v in verdicts)
            whom = " and ".join(v.name for v in verdicts)
            verb = "does" if len(verdicts) == 1 else "do"
            text = f"{start}prior's, which {whom} {verb} not confirm ({seen})."
            yield Flag("unconfirmed", entry.method, entry.budget, text)


def _over_budgets(
    summary: Summary, problem: ProblemKey, entries: list[Entry], judges: Sequence[str]
) -> Iterator[Flag]:
    """More compute, more reward, and a worse judge."""
    place = {(e.method, e.budget): e for e in entries}
    for small, large in pairwise(summary.budgets(problem)):
        for method in dict.fromkeys(e.method for e in entries):
            more, less = place.get((method, large)), place.get((method, small))
            if more is None or less is None:
                continue
            start = f"`{method}` from `{small}` to `{large}`"
            yield from _over_optimised(summary, less, more, judges, start)


def _over_strengths(summary: Summary, problem: ProblemKey, judges: Sequence[str]) -> Iterator[Flag]:
    """A stronger push, more reward, and a worse judge."""
    for ladder in ladders(summary, problem):
        for less, more in pairwise(ladder.entries):
            if more.problem == problem:
                weaker = f"the weaker `{less.method}`{_strength(less, more)}"
                start = f"`{more.method}`{_at(more)} against {weaker}"
                yield from _over_optimised(summary, less, more, judges, start)


def _over_optimised(
    summary: Summary, less: Entry, more: Entry, judges: Sequence[str], start: str
) -> Iterator[Flag]:
    reward = difference(more.estimate("reward"), less.estimate("reward"), as_drawn=True)
    for verdict in _verdicts(summary, more, less, judges) if _above(reward) else ():
        if verdict.worse:
            text = (
                f"{start}: the reward rises by {short(reward.mean)} while {verdict.told}: "
                "over-optimisation."
            )
            yield Flag("over-optimised", more.method, more.budget, text)


@dataclass(frozen=True)
class Verdict:
    """How a held-out metric changed from one entry to another.

    name: for sentences.  direction: which way is better.
    """

    name: str
    gap: Difference
    direction: str

    @property
    def worse(self) -> bool:
        """Clearly worse."""
        return _below(self.gap) if self.direction == "higher" else _above(self.gap)

    @property
    def better(self) -> bool:
        """Clearly better."""
        return _above(self.gap) if self.direction == "higher" else _below(self.gap)

    @property
    def told(self) -> str:
        """'the judge falls by 0.1'."""
        verb = "rises" if self.gap.mean > 0 else "falls"
        return f"{self.name} {verb} by {short(abs(self.gap.mean))}"


def _verdicts(summary: Summary, entry: Entry, other: Entry, judges: Sequence[str]) -> list[Verdict]:
    """Of every judge that knows which way is better and has measured both."""
    both = [m for m in judges if entry.estimate(m).known and other.estimate(m).known]
    main = summary.judge(entry.problem)
    found = [
        Verdict(
            "the judge" if m == main else f"`{m}`",
            difference(entry.estimate(m), other.estimate(m), as_drawn=True),
            summary.info[m].direction,
        )
        for m in both
    ]
    return [verdict for verdict in found if verdict.direction in ("higher", "lower")]


def _known(entry: Entry, judges: Sequence[str]) -> bool:
    return any(entry.estimate(metric).known for metric in judges)


def _strength(less: Entry, more: Entry) -> str:
    if less.problem.strength == more.problem.strength:
        return ""
    return f" at strength {less.problem.strength:g} instead of {more.problem.strength:g}"


def _curves(summary: Summary, problem: ProblemKey) -> Iterator[str]:
    """One number for every over-optimisation curve that ends on this problem."""
    for ladder in ladders(summary, problem):
        share = lost_share(summary, ladder)
        if share is None or ladder.entries[-1].problem != problem:
            continue
        yield (
            f"Over-optimisation of `{ladder.name}` over {len(ladder.entries)} strengths, judge "
            f"against {ladder.axis}: the strongest has lost {percent(share)} of what the judge had "
            "gained at its best."
        )


# -- collapse, drift, disagreement ----------------------------------------------------------------


def _less_diverse(summary: Summary, entry: Entry) -> Iterator[Flag]:
    """Clearly below what the law asks for, by more than `DRIFT_SHARE` of it.

    A tilt that asks for some of what the base model draws must lower diversity: where only the
    base model can be asked, one repeated sample is a flag and nothing else.
    """
    for metric in summary.measuring("diversity"):
        own, other = entry.estimate(metric), yardstick(summary, entry, metric)
        if other is None or not own.known:
            continue
        there = other.value
        gap = difference(own, there, as_drawn=True)
        share = 1 - DRIFT_SHARE if other.is_law else other.collapsed
        if _below(gap) and own.mean < share * there.mean:
            text = (
                f"`{entry.method}`{_at(entry)}: {metric} is {short(own.mean)}, below the "
                f"{short(there.mean)} of {other.whose} ({_change(gap)}): samples repeat "
                "themselves."
            )
            yield Flag("diversity", entry.method, entry.budget, text)


def _drifted(summary: Summary, entry: Entry) -> Iterator[Flag]:
    """What the pictures look like has moved clearly away from the base model's."""
    prior = summary.base(entry)
    for metric in summary.measuring("drift") if prior is not None else ():
        assert prior is not None
        own, base = entry.estimate(metric), prior.estimate(metric)
        if not own.known or not base.known:
            continue
        gap = difference(own, base, as_drawn=True)
        moved = abs(gap.mean) > DRIFT_SHARE * abs(base.mean)
        if moved and (_above(gap) or _below(gap)):
            text = (
                f"`{entry.method}`{_at(entry)}: {metric} goes from {short(base.mean)} to "
                f"{short(own.mean)} ({_change(gap)})."
            )
            yield Flag("drift", entry.method, entry.budget, text)


def _disagreeing(summary: Summary, entry: Entry) -> Iterator[Flag]:
    """The members of a summed reward are further apart than on the base model's samples."""
    prior = summary.base(entry)
    for metric in summary.measuring("disagreement") if prior is not None else ():
        assert prior is not None
        own, base = entry.estimate(metric), prior.estimate(metric)
        if not own.known or not base.known:
            continue
        gap = difference(own, base, as_drawn=True)
        if _above(gap) and gap.mean > DRIFT_SHARE * abs(base.mean):
            text = (
                f"`{entry.method}`{_at(entry)}: the members of the reward disagree by "
                f"{short(own.mean)} deviations, {short(gap.mean)} more than on the base model's "
                "samples."
            )
            yield Flag("disagreement", entry.method, entry.budget, text)


def _sizes(summary: Summary, problem: ProblemKey) -> list[str]:
    """How strong the tilt is, in nats, where it was measured."""
    metrics, priors = summary.measuring("tilt"), [e for e in summary.of(problem) if e.is_untilted]
    found = (entry.estimate(metric) for metric in metrics for entry in priors)
    known = next((value for value in found if value.known), None)
    if known is None:
        return []
    return [f"Strength times the reward's deviation under the base model: {short(known.mean)}."]


def _above(gap: Difference) -> bool:
    return math.isfinite(gap.half) and gap.mean > gap.half


def _below(gap: Difference) -> bool:
    return math.isfinite(gap.half) and gap.mean < -gap.half


def _at(entry: Entry) -> str:
    return f" at `{entry.budget}`" if entry.budget else ""


def _change(gap: Difference) -> str:
    half = f" ± {short(gap.half)}" if math.isfinite(gap.half) else ""
    return f"{'+' if gap.mean > 0 else ''}{short(gap.mean)}{half}"
