"""What fits logged while they were trained: losses by step.

A fit is a cell of its own, whose attempt leaves a curve; the cells that sample from it name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.data.run import RunTables, stored_curve
from reports.data.summary import ProblemKey, Summary

MOST_FITS = 20
"""Of a method on a problem whose curves are read; a run may have a thousand."""

STEP = "step"

Curve = NDArray[np.float64]
"""(points, 2): step and value."""


@dataclass(frozen=True)
class Loss:
    """A loss of a method on a problem.

    curves: of the fits that logged it.  fits: how many there are in all, read or not.
    """

    problem: ProblemKey
    method: str
    name: str
    curves: tuple[Curve, ...]
    fits: int

    @property
    def steps(self) -> float:
        """The last step that any of them logged."""
        return max(float(curve[-1, 0]) for curve in self.curves)

    def ends(self, last: bool) -> list[float]:
        """Of every fit the mean of the first or of the last tenth of what it logged."""
        tenths = [max(len(curve) // 10, 1) for curve in self.curves]
        parts = [c[-k:] if last else c[:k] for c, k in zip(self.curves, tenths, strict=True)]
        return [float(part[:, 1].mean()) for part in parts]


def losses(run: RunTables, summary: Summary) -> list[Loss]:
    """Of every method that was fitted, in the order of the page."""
    found = []
    for problem in summary.problems:
        fits: dict[str, list[str]] = {}
        for entry in summary.of(problem):
            fits.setdefault(entry.method, []).extend(filter(None, entry.cells["fit"]))
        for method, named in fits.items():
            found += _of_method(run, problem, method, sorted(set(named)))
    return found


def _of_method(run: RunTables, problem: ProblemKey, method: str, fits: Sequence[str]) -> list[Loss]:
    logged = [stored_curve(run, fit) for fit in fits[:MOST_FITS]]
    names = dict.fromkeys(str(c) for frame in logged for c in frame.columns if c != STEP)
    made = {name: tuple(filter(len, (_curve(frame, name) for frame in logged))) for name in names}
    return [Loss(problem, method, name, c, len(fits)) for name, c in made.items() if c]


def _curve(frame: pd.DataFrame, name: str) -> Curve:
    """Finite values by step; of a step that was logged twice (a fit that went on) the later."""
    if name not in frame:
        return np.empty((0, 2))
    known = frame[[STEP, name]].drop_duplicates(STEP, keep="last").sort_values(STEP)
    points: Curve = known.to_numpy(dtype=float)
    return points[np.isfinite(points).all(1)]


def thinned(curve: Curve, most: int) -> Curve:
    """At most so many points: means over neighbours, of equal number but for one."""
    if len(curve) <= most:
        return curve
    return np.array([part.mean(0) for part in np.array_split(curve, most)])
