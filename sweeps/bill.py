"""The tuning work of trials: as measured, or as planned where it is to come, every cell once."""

from __future__ import annotations

from collections.abc import Iterable

from sweeps.cell_ends import CellEnds
from sweeps.outcomes import PRUNED, Outcomes
from sweeps.planner import Planner
from sweeps.trials import CellEnd, Trial


class Bill:
    """What trials of a study cost, in the budget's unit."""

    def __init__(self, planner: Planner, ends: CellEnds, outcomes: Outcomes) -> None:
        self.planner, self.ends, self.outcomes = planner, ends, outcomes
        self._final: dict[int, dict[str, float]] = {}

    def of(self, trials: Iterable[Trial]) -> dict[str, float]:
        """Cost by cell and fit of trials."""
        total: dict[str, float] = {}
        for trial in trials:
            if trial.number not in self._final:
                costs = self.of_rounds(trial, self._rounds(trial))
                if self.outcomes.of(trial).state == "running":
                    total |= costs
                    continue
                self._final[trial.number] = costs
            total |= self._final[trial.number]
        return total

    def of_rounds(self, trial: Trial, rounds: Iterable[int]) -> dict[str, float]:
        """Cost by cell and fit of some rounds of a trial."""
        costs: dict[str, float] = {}
        for row in (r for i in rounds if trial.row for r in self.planner.round(trial.row, i)):
            costs[row.id] = _known(self.ends.of_row(row), self.planner.cost(row))
            if row.fit is not None:
                costs[row.fit.id] = _known(self.ends.of_cell(row.fit.cell), row.fit.cost)
        return costs

    def _rounds(self, trial: Trial) -> range:
        """The rounds that a trial ran, or will run if it goes on to the end."""
        found, seeds = self.outcomes.of(trial), self.planner.spec.tuning_seeds
        if trial.row is None or found.state in ("running", "complete"):
            return range(seeds)
        failed = not found.reason.startswith(PRUNED)
        return range(len(found.means) + failed)


def _known(end: CellEnd | None, planned: float) -> float:
    return planned if end is None or end.cost is None else end.cost
