"""How trials stand, from the cells that have ended, and which of them are stopped early."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeps.cell_ends import CellEnds
from sweeps.planner import Planner
from sweeps.spec import Spec, direction_of
from sweeps.trials import CellEnd, Trial, TrialOutcome, TrialState, mean

HOPELESS = ("diverged", "timeout", "over_budget")
"""Statuses that say something about the parameters: told to Optuna as pruned, others as failed."""

PRUNED, INFEASIBLE = "pruned after", "infeasible"


class Outcomes:
    """The outcomes of a study's `trials`, which may grow; kept once they can no longer change."""

    def __init__(
        self, spec: Spec, planner: Planner, ends: CellEnds, trials: Sequence[Trial]
    ) -> None:
        self.spec, self.planner, self.ends, self.trials = spec, planner, ends, trials
        self.directions = [direction_of(name) for name in spec.objectives]
        self.pruner = spec.pruner
        self._final: dict[int, TrialOutcome] = {}

    def of(self, trial: Trial) -> TrialOutcome:
        """How a trial stands."""
        if trial.number not in self._final:
            found = self._now(trial)
            if found.state == "running":
                return found
            self._final[trial.number] = found
        return self._final[trial.number]

    def rank(self, value: float) -> float:
        """The first objective turned so that lower is better."""
        return -value if self.directions[0] == "maximize" else value

    def _now(self, trial: Trial) -> TrialOutcome:
        if trial.row is None:
            dear = trial.refused.startswith(INFEASIBLE)
            return TrialOutcome("pruned" if dear else "fail", reason=trial.refused)
        rounds: list[tuple[float, ...]] = []
        means: tuple[float, ...] = ()
        for index in range(self.spec.tuning_seeds):
            ended = [self.ends.of_row(row) for row in self.planner.round(trial.row, index)]
            early = _unfinished(ended, means)
            if early is not None:
                return early
            rounds.append(mean([end.values for end in ended if end is not None]))
            if not all(map(math.isfinite, rounds[-1])):
                return TrialOutcome("pruned", (), means, "an objective is not finite")
            means = (*means, mean(rounds)[0])
            if index + 1 < self.spec.tuning_seeds and self._hopeless(trial, means):
                return TrialOutcome("pruned", (), means, f"{PRUNED} {index + 1} seeds")
        return TrialOutcome("complete", mean(rounds), means)

    def _hopeless(self, trial: Trial, means: tuple[float, ...]) -> bool:
        """Whether successive halving stops a trial; it looks at what its proposal had seen."""
        rule, came = self.pruner, len(means)
        if rule is None or trial.number == 0 or not _is_power(came, rule.reduction):
            return False
        earlier = [self.of(t).means for t in self.trials[: trial.seen]]
        rivals = [m[came - 1] for m in earlier if len(m) >= came]
        better = sum(self.rank(r) < self.rank(means[-1]) for r in rivals)
        return len(rivals) >= rule.grace and better >= (len(rivals) + 1) / rule.reduction


def _unfinished(ended: Sequence[CellEnd | None], means: tuple[float, ...]) -> TrialOutcome | None:
    """The outcome if a round holds a cell that went wrong or has not ended."""
    bad = next((end for end in ended if end is not None and end.status != "ok"), None)
    if bad is not None:
        state: TrialState = "pruned" if bad.status in HOPELESS else "fail"
        return TrialOutcome(state, (), means, f"{bad.status}: {bad.reason}")
    return TrialOutcome("running", (), means) if None in ended else None


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
