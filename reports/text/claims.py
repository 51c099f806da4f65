"""What became of a claim, in a sentence and as plain data."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any

from bench.core.units import UNITS
from reports.data.verdicts import Evidence, Verdict
from reports.text.labels import budget_label
from reports.text.numbers import short


def told(verdict: Verdict) -> str:
    """How many pairs, and the figures of the one that decides."""
    worst = verdict.worst
    if worst is None:
        return f"Not measured here: {verdict.why}."
    missing = f" ({verdict.why})" if verdict.why else ""
    return f"{counts(verdict)}{missing}. {_which(verdict)}: {figures(verdict, worst)}."


def counts(verdict: Verdict) -> str:
    """On how many pairs of rows it holds and does not."""
    pairs = len(verdict.evidence)
    held, lost = verdict.count("holds"), verdict.count("does not hold")
    refuted = f", and is refuted on {lost}" if lost else ""
    return f"Holds on {held} of {pairs} pair{'s' if pairs > 1 else ''} of rows{refuted}"


def _which(verdict: Verdict) -> str:
    return {"holds": "The nearest to failing", "does not hold": "The clearest against it"}.get(
        verdict.outcome, "The least sure"
    )


def figures(verdict: Verdict, found: Evidence) -> str:
    """Both rows, the advantage with its interval, the repetitions, and what is to be known."""
    where = f"{found.problem.title} at `{budget_label(found.budget)}`"
    other = f" against `{found.other}` {short(found.against)}" if found.other else ""
    note = f"; {found.note}" if found.note else ""
    rows = f"{verdict.claim.metric} of `{found.row}` {short(found.value)}{other}"
    return f"{where}, {rows}, {advantage(verdict, found)}{note}"


def advantage(verdict: Verdict, found: Evidence) -> str:
    """What the claim says is above 0."""
    value = f"advantage {short(found.advantage)}"
    if verdict.claim.metric in UNITS:
        return f"{value}, counted"
    some = f"{found.repetitions} repetition{'s' if found.repetitions != 1 else ''}"
    if not isfinite(found.low):
        return f"{value} without an interval, {some}"
    return f"{value} ({short(found.low)} to {short(found.high)}), {some}"


def as_data(verdict: Verdict) -> dict[str, Any]:
    """For --json: unknown numbers are null."""
    claim = verdict.claim.model_dump()
    evidence = [_plain(e) for e in verdict.evidence]
    return {**claim, "verdict": verdict.outcome, "why": verdict.why, "evidence": evidence}


def _plain(found: Evidence) -> dict[str, Any]:
    fields = asdict(found)
    problem = fields.pop("problem")
    known = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in fields.items()}
    return {**problem, **known}
