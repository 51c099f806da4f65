"""Reward governance: does the held-out judge confirm what the reward says?"""

from __future__ import annotations

import math
from itertools import pairwise

from reports.numbers import short
from reports.statistics import Difference, difference
from reports.summary import Entry, Problem, Summary


def warnings(summary: Summary, problem: Problem) -> list[str]:
    """Sentences about methods whose reward and judge disagree; one sentence if none does."""
    entries = [e for e in summary.of(problem) if e.estimate("judge").known]
    if not entries:
        return []
    found = [*_unconfirmed(summary, entries), *_overoptimised(summary, problem, entries)]
    return found or [
        "No method raised the reward while the judge clearly fell, neither against the prior nor "
        "from one budget to the next."
    ]


def _unconfirmed(summary: Summary, entries: list[Entry]) -> list[str]:
    """Reward above the prior's, judge not above it."""
    sentences = []
    for entry in entries:
        prior = summary.find(entry.problem, "prior", entry.budget)
        if prior is None or entry is prior or entry.name == "exact":
            continue
        reward, judge = _gaps(entry, prior)
        if _above(reward) and not _above(judge):
            sentences.append(
                f"`{entry.method}` at `{entry.budget}`: the reward rises by {short(reward.mean)} "
                f"over the prior's, which the judge does not confirm ({_change(judge)})."
            )
    return sentences


def _overoptimised(summary: Summary, problem: Problem, entries: list[Entry]) -> list[str]:
    """More compute, more reward, and a lower judge."""
    sentences = []
    budgets = summary.budgets(problem)
    place = {(e.method, e.budget): e for e in entries}
    for small, large in pairwise(budgets):
        for method in dict.fromkeys(e.method for e in entries):
            pair = [place.get((method, budget)) for budget in (large, small)]
            if pair[0] is None or pair[1] is None:
                continue
            reward, judge = _gaps(pair[0], pair[1])
            if _above(reward) and judge.mean < -judge.half:
                sentences.append(
                    f"`{method}` from `{small}` to `{large}`: the reward rises by "
                    f"{short(reward.mean)} while the judge falls by {short(-judge.mean)}: "
                    "over-optimisation."
                )
    return sentences


def _gaps(a: Entry, b: Entry) -> tuple[Difference, Difference]:
    reward, judge = (difference(a.estimate(m), b.estimate(m)) for m in ("reward", "judge"))
    return reward, judge


def _above(gap: Difference) -> bool:
    return math.isfinite(gap.half) and gap.mean > gap.half


def _change(gap: Difference) -> str:
    half = f" ± {short(gap.half)}" if math.isfinite(gap.half) else ""
    return f"{'+' if gap.mean > 0 else ''}{short(gap.mean)}{half}"
