"""The table of splits: which default is behind the best split of its budget, and by how much.

The best of a dozen noisy rows is flattered by its own seeds.  So the table has both: by how much
the default is behind the row that all seeds call best, and by how much it is where each seed in
turn is spared, the others choose, and the spared one alone compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

GOOD = 0.25
"""A default this much worse than the best split is marked."""


@dataclass(frozen=True)
class Line:
    """The splits of one method in one world at one budget.

    distance: whether `runs` are distances to the law, or rewards.  runs: by row, a value per seed,
    NaN where there is no result.  base: the reward of the base model, from which a gain is counted.
    floor: the distance of exact draws of the law, NaN where there are none.
    """

    world: str
    method: str
    budget: int
    distance: bool
    default: str
    runs: Mapping[str, Sequence[float]]
    base: float
    floor: float = math.nan

    @property
    def values(self) -> dict[str, float]:
        """By row, the mean over its seeds."""
        return {row: _mean(seen) for row, seen in self.runs.items()}

    @property
    def own(self) -> float:
        """What the default has."""
        return self.values[self.default]

    @property
    def best(self) -> str:
        """The best row; the default where it is as good."""
        return self._chosen(self.values)

    def _chosen(self, values: Mapping[str, float]) -> str:
        choose: Callable[..., str] = min if self.distance else max
        there = {row: value for row, value in values.items() if math.isfinite(value)}
        return choose(there or values, key=lambda row: values[row])

    @property
    def worse(self) -> float:
        """By which part the default is behind: of the best distance, or of the best row's gain."""
        return self._gap(self.own, self.values[self.best])

    @property
    def unseen(self) -> float:
        """The same on seeds that did not choose; below 0 where the default is better than theirs.

        Over the seeds on which both have a result; NaN with fewer than two.
        """
        pairs = [self._spared(k) for k in range(len(self.runs[self.default]))]
        both = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if len(both) < 2:
            return math.nan
        own, chosen = (_mean(side) for side in zip(*both, strict=True))
        return self._gap(own, chosen)

    def _spared(self, k: int) -> tuple[float, float]:
        """What seed k has of the default, and of the row that the others call best."""
        others = {r: _mean([v for j, v in enumerate(s) if j != k]) for r, s in self.runs.items()}
        return self.runs[self.default][k], self.runs[self._chosen(others)][k]

    def _gap(self, own: float, best: float) -> float:
        if not math.isfinite(own):
            return math.inf
        if self.distance:
            return own / best - 1
        return (best - own) / max(abs(best - self.base), 1e-12)

    @property
    def behind(self) -> bool:
        return self.worse > GOOD

    @property
    def mark(self) -> str:
        """What the table says of a default that is behind."""
        if not self.behind:
            return ""
        return "behind, at the floor" if self.own <= self.floor else "behind"


def _mean(values: Sequence[float]) -> float:
    """Over what is finite; NaN over nothing."""
    there = [value for value in values if math.isfinite(value)]
    return sum(there) / len(there) if there else math.nan


HEADS = (
    "world", "method", "budget", "default", "is", "best", "at best", "worse by", "unseen", "splits",
    "floor", "",
)  # fmt: skip


def percent(part: float) -> str:
    """A part of one as a table says it."""
    return f"{100 * part:.0f} %" if math.isfinite(part) else "no result"


def cells(line: Line) -> list[str]:
    """A row of the table."""
    return [
        line.world, line.method, f"{line.budget:,}", line.default.partition(":")[2],
        f"{line.own:.3g}", line.best.partition(":")[2], f"{line.values[line.best]:.3g}",
        percent(line.worse), percent(line.unseen), str(len(line.runs)),
        f"{line.floor:.3g}" if math.isfinite(line.floor) else "", line.mark,
    ]  # fmt: skip


def in_markdown(rows: Iterable[Sequence[str]]) -> str:
    """Head, rule and rows."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEADS, ["---"] * len(HEADS), *rows))


def section(title: str, lines: Sequence[Line]) -> str:
    """A heading, how many defaults are good, and the table."""
    within = sum(not line.behind for line in lines)
    unseen = sum(line.unseen <= GOOD for line in lines)
    said = (
        f"{within} of {len(lines)} defaults are within {100 * GOOD:.0f} % of the best split; on "
        f"seeds that did not choose it, {unseen}."
    )
    if floored := sum("floor" in line.mark for line in lines):
        said += f" {floored} of those that are behind are as near to the law as exact draws of it."
    return f"## {title}\n\n{said}\n\n{in_markdown(map(cells, lines))}\n"


def written(lines: Sequence[Line], seeds: int) -> str:
    """results/splits.md."""
    head = (
        "# Splits of a budget, default and best\n\n"
        f"Made by `python -m benchmarks.splits`, {seeds} seeds; see `Method.split`. "
        f"{seeds} seeds decide nothing below 30 %. A distance is behind by a part of the best "
        "split's; a reward by a part of what the best split gains over the base model. The best of "
        "a dozen noisy rows is flattered by its own seeds; under *unseen* each seed is spared in "
        "turn, the others choose the best split, and the spared one compares (below 0: the default "
        "is better than what they chose). The *floor* is the distance of as many exact draws of "
        "the law.\n"
    )
    parts = {
        "By the distance to the law": [line for line in lines if line.distance],
        "By the reward: no law to compare with, or a method that maximises": [
            line for line in lines if not line.distance
        ],
    }
    return "\n".join([head, *(section(title, own) for title, own in parts.items() if own)])
