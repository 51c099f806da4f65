"""The table of splits: which default is behind the best split of its budget, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

GOOD = 0.25
"""A default this much worse than the best split is marked."""


@dataclass(frozen=True)
class Line:
    """The splits of one method in one world at one budget.

    distance: whether `values` are distances to the law, or rewards.  values: by row, NaN for a row
    without a result.  base: the reward of the base model, from which a gain is counted.
    """

    world: str
    method: str
    budget: int
    distance: bool
    default: str
    values: dict[str, float]
    base: float

    @property
    def own(self) -> float:
        """What the default has."""
        return self.values[self.default]

    @property
    def best(self) -> str:
        """The best row; the default where it is as good."""
        choose: Callable[..., str] = min if self.distance else max
        there = {row: value for row, value in self.values.items() if math.isfinite(value)}
        return choose(there or self.values, key=lambda row: self.values[row])

    @property
    def worse(self) -> float:
        """By which part the default is behind: of the best distance, or of the best row's gain."""
        own, best = self.own, self.values[self.best]
        if not math.isfinite(own):
            return math.inf
        if self.distance:
            return own / best - 1
        return (best - own) / max(abs(best - self.base), 1e-12)

    @property
    def behind(self) -> bool:
        return self.worse > GOOD


HEADS = ("world", "method", "budget", "default", "is", "best", "at best", "worse by", "splits", "")


def cells(line: Line) -> list[str]:
    """A row of the table."""
    worse = f"{100 * line.worse:.0f} %" if math.isfinite(line.worse) else "no result"
    return [
        line.world, line.method, f"{line.budget:,}", line.default.partition(":")[2],
        f"{line.own:.3g}", line.best.partition(":")[2], f"{line.values[line.best]:.3g}", worse,
        str(len(line.values)), "behind" if line.behind else "",
    ]  # fmt: skip


def in_markdown(rows: Iterable[Sequence[str]]) -> str:
    """Head, rule and rows."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEADS, ["---"] * len(HEADS), *rows))


def section(title: str, lines: Sequence[Line]) -> str:
    """A heading, how many defaults are good, and the table."""
    within = sum(not line.behind for line in lines)
    said = f"{within} of {len(lines)} defaults are within {100 * GOOD:.0f} % of the best split."
    return f"## {title}\n\n{said}\n\n{in_markdown(map(cells, lines))}\n"


def written(lines: Sequence[Line], seeds: int) -> str:
    """results/splits.md."""
    head = (
        "# Splits of a budget, default and best\n\n"
        f"Made by `python -m benchmarks.splits`, {seeds} seeds; see `Method.split`. "
        f"{seeds} seeds decide nothing below 30 %. A distance is behind by a part of the best "
        "split's; a reward by a part of what the best split gains over the base model.\n"
    )
    parts = {
        "By the distance to the law": [line for line in lines if line.distance],
        "By the reward: no law to compare with, or a method that maximises": [
            line for line in lines if not line.distance
        ],
    }
    return "\n".join([head, *(section(title, own) for title, own in parts.items() if own)])
