"""Would the leader be another one if failures counted, or if compute were counted otherwise?"""

from __future__ import annotations

from collections.abc import Sequence

from reports.data.sensitivity import FailureSensitivity, failure_sensitivity, unit_sensitivity
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.labels import listed
from reports.text.numbers import short


def left_out(entries: Sequence[Entry], metric: str, direction: str) -> str:
    """Whose cells a comparison leaves out, and what it would say with them; empty where none."""
    lost = [f"`{e.method}` ({len(e.cells) - len(e.done)} of {len(e.cells)} cells)"
            for e in entries if len(e.done) < len(e.cells)]  # fmt: skip
    if not lost:
        return ""
    said = f" Left out, on both sides: what did not end well of {listed(lost)}."
    found = failure_sensitivity(entries, metric, direction)
    return said + (_counted(found) if found is not None and found.failed else "")


def _counted(found: FailureSensitivity) -> str:
    """Only methods with a value compete, so that one of which all failed leads neither way."""
    before, after = found.as_compared, found.failures_worst
    intro = " Counted as the worst values there are, these cells would"
    if found.holds:
        return f"{intro} not change who leads, nor how clearly."
    if after.leader != before.leader:
        clearly = "clearly" if after.clear else "not clearly"
        return f"{intro} put `{after.leader}` first instead, {clearly}."
    return (
        f"{intro} {'make' if after.clear else 'leave'} the lead {'' if after.clear else 'un'}clear."
    )


def other_units(summary: Summary, problem: ProblemKey, metric: str) -> str:
    """Who would lead at equal cost in other units; empty where all that can say agree."""
    found = unit_sensitivity(summary, problem, metric, summary.info[metric].direction)
    if found.holds:
        return ""
    parts = [
        f"`{leader}` in {unit} (costs at one budget differ up to {short(found.spread[unit])} times)"
        for unit, leader in found.leaders.items()
        if leader
    ]
    return (
        f"Who has the best {metric} depends on what is held equal: {listed(parts)}. Read between "
        "budgets at the largest cost that all reach, by the means alone."
    )
