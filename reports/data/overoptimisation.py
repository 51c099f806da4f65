"""Over-optimisation curves: the judge against the distance to the base model, as the push grows.

A ladder is one method at growing strength: all its parameters alike but `guidance` (for Best-of-N:
the number of candidates), and the reward's own strength free.  Its curve starts at the base model
and is summarised by one number,

    lost = (J_best - J_end) / (J_best - min(J_base, J_end)),

the share of the judge's best gain that the strongest setting has given back: 0 where more is still
better, 1 where the judge is back at the base model or below.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from reports.data.summary import Entry, Problem, Summary

DISTANCES = ("mmd2-data", "mmd2-pixels")
"""Distances to the base model's own law, if a task has one."""


@dataclass(frozen=True)
class Ladder:
    """A method at growing strength, weakest first; axis says what its curve is drawn against."""

    name: str
    entries: tuple[Entry, ...]
    axis: str

    def places(self) -> list[float]:
        """Where the entries stand on the axis."""
        return [_place(entry, self.axis) for entry in self.entries]


def ladders(summary: Summary, problem: Problem) -> list[Ladder]:
    """The ladders of two strengths or more that have a rung on a problem."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in summary.entries:
        same = (entry.problem.task, entry.problem.reward) == (problem.task, problem.reward)
        if same and entry.estimate("judge").known and entry.name not in ("prior", "exact"):
            groups.setdefault((_base(entry), entry.budget), []).append(entry)
    found = []
    for (name, _), entries in groups.items():
        rungs = sorted(entries, key=_rung)
        distinct = len({_rung(entry) for entry in rungs})
        if distinct > 1 and any(entry.problem == problem for entry in rungs):
            found.append(Ladder(name, tuple(rungs), _axis(rungs)))
    return found


def push(entry: Entry) -> float:
    """strength * guidance: how hard the reward is pushed."""
    found = re.search(r"guidance=([0-9.e+-]+)", entry.method)
    return entry.problem.strength * (float(found[1]) if found else 1.0)


def _rung(entry: Entry) -> tuple[float, int]:
    return push(entry), _candidates(entry)


def _base(entry: Entry) -> str:
    """The label without what makes it stronger: its guidance, or the N of Best-of-N."""
    name, _, rest = entry.method.partition(":")
    stronger = ("guidance=", "candidates=") if _candidates(entry) else ("guidance=",)
    kept = [part for part in rest.split(",") if part and not part.startswith(stronger)]
    return f"{name}:{','.join(kept)}" if kept else name


def best_of_n_kl(n: int) -> float:
    """KL of Best-of-N to the base law, in nats: log n - (n - 1) / n (arXiv 2401.01879: at most)."""
    return math.log(n) - (n - 1) / n


def _axis(entries: list[Entry]) -> str:
    if all(_candidates(entry) for entry in entries):
        return "KL"
    for metric in DISTANCES:
        if all(entry.estimate(metric).known for entry in entries):
            return metric
    return "strength"


def _place(entry: Entry, axis: str) -> float:
    if axis == "KL":
        return best_of_n_kl(_candidates(entry))
    return push(entry) if axis == "strength" else entry.estimate(axis).mean


def _candidates(entry: Entry) -> int:
    found = re.search(r"candidates=(\d+)", entry.method)
    return int(found[1]) if found and entry.name.startswith("best-of-n") else 0


def lost_share(summary: Summary, ladder: Ladder) -> float | None:
    """The share of the judge's best gain that the strongest setting gave back, or None.

    The base model is the first point of the curve, so a judge that only falls has lost all.
    """
    priors = (e for e in summary.entries if e.name == "prior" and _same(e, ladder))
    base = next((e.estimate("judge").mean for e in priors if e.estimate("judge").known), None)
    if base is None:
        return None
    scores = [entry.estimate("judge").mean for entry in ladder.entries]
    best, end = max([base, *scores]), scores[-1]
    lowest = min(base, end)
    return (best - end) / (best - lowest) if best > lowest else 0.0


def _same(entry: Entry, ladder: Ladder) -> bool:
    first = ladder.entries[0].problem
    return (entry.problem.task, entry.problem.reward) == (first.task, first.reward)
