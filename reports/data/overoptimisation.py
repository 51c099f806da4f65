"""Over-optimisation curves: the judge against the distance to the base model, as the push grows.

A ladder is one method at growing strength: all its parameters alike but its declared `push` or
`best_of`, and the reward's own strength free.  Its curve starts at the base model and is summarised
by one number,

    lost = (J_best - J_end) / (J_best - min(J_base, J_end)),

the share of the judge's best gain that the strongest setting has given back: 0 where more is still
better, 1 where the judge is back at the base model or below.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary


@dataclass(frozen=True)
class Ladder:
    """A method at growing strength, weakest first; axis says what its curve is drawn against."""

    name: str
    entries: tuple[Entry, ...]
    axis: str

    def places(self) -> list[float]:
        """Where the entries stand on the axis."""
        return [_place(entry, self.axis) for entry in self.entries]


def ladders(summary: Summary, problem: ProblemKey) -> list[Ladder]:
    """The ladders of two strengths or more that have a rung on a problem."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in summary.entries:
        same = (entry.problem.task, entry.problem.reward) == (problem.task, problem.reward)
        if same and _judge(summary, entry).known and not (entry.is_untilted or entry.is_floor):
            groups.setdefault((_base(entry), entry.budget), []).append(entry)
    found = []
    for (name, _), entries in groups.items():
        rungs = sorted(entries, key=_rung)
        distinct = len({_rung(entry) for entry in rungs})
        if distinct > 1 and any(entry.problem == problem for entry in rungs):
            found.append(Ladder(name, tuple(rungs), _axis(summary, rungs)))
    return found


def push(entry: Entry) -> float:
    """strength * guidance: how hard the reward is pushed."""
    factor = _parameter(entry, entry.about.push)
    return entry.problem.strength * (1.0 if factor is None else factor)


def _parameter(entry: Entry, name: str) -> float | None:
    """A parameter that the label states."""
    found = re.search(rf"[:,]{re.escape(name)}=([0-9.e+-]+)", entry.method) if name else None
    return float(found[1]) if found else None


def _judge(summary: Summary, entry: Entry) -> MeanInterval:
    return entry.estimate(summary.judge(entry.problem))


def _rung(entry: Entry) -> tuple[float, int]:
    return push(entry), _candidates(entry)


def _base(entry: Entry) -> str:
    """The label without what makes it stronger."""
    name, _, rest = entry.method.partition(":")
    stronger = (entry.about.push, entry.about.best_of)
    kept = [part for part in rest.split(",") if part and part.partition("=")[0] not in stronger]
    return f"{name}:{','.join(kept)}" if kept else name


def best_of_n_kl(n: int) -> float:
    """KL of Best-of-N to the base law, in nats: log n - (n - 1) / n (arXiv 2401.01879: at most)."""
    return math.log(n) - (n - 1) / n


def _axis(summary: Summary, entries: list[Entry]) -> str:
    """KL of Best-of-N, else the first distance to the base or the tilted law that all know."""
    if all(_candidates(entry) for entry in entries):
        return "KL"
    for metric in (*summary.measuring("shift"), *summary.measuring("distance")):
        if all(entry.estimate(metric).known for entry in entries):
            return metric
    return "strength"


def _place(entry: Entry, axis: str) -> float:
    if axis == "KL":
        return best_of_n_kl(_candidates(entry))
    return push(entry) if axis == "strength" else entry.estimate(axis).mean


def _candidates(entry: Entry) -> int:
    """The N of Best-of-N; 0 for other methods."""
    return int(_parameter(entry, entry.about.best_of) or 0)


def lost_share(summary: Summary, ladder: Ladder) -> float | None:
    """The share of the judge's best gain that the strongest setting gave back, or None.

    The base model is the first point of the curve, so a judge that only falls has lost all.
    """
    priors = (e for e in summary.entries if e.is_untilted and _same(e, ladder))
    base = next((j.mean for e in priors if (j := _judge(summary, e)).known), None)
    if base is None:
        return None
    scores = [_judge(summary, entry).mean for entry in ladder.entries]
    best, end = max([base, *scores]), scores[-1]
    lowest = min(base, end)
    return (best - end) / (best - lowest) if best > lowest else 0.0


def _same(entry: Entry, ladder: Ladder) -> bool:
    first = ladder.entries[0].problem
    return (entry.problem.task, entry.problem.reward) == (first.task, first.reward)
