"""Which trial of a study is chosen: the leaders are re-scored with the work that trials left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sweeps.cell_ends import CellEnds
from sweeps.outcomes import Outcomes
from sweeps.planner import Planner
from sweeps.trials import Trial, mean

FINALISTS = 3
"""Leading trials that are re-scored with the work that is left."""


@dataclass(frozen=True)
class Selection:
    """The leaders among `trials`; `left` is the tuning work that re-scores them."""

    trials: Sequence[Trial]
    planner: Planner
    ends: CellEnds
    outcomes: Outcomes
    left: float

    @cached_property
    def leaders(self) -> list[Trial]:
        """The complete trials with the best first objective, of different configurations."""
        of, rank = self.outcomes.of, self.outcomes.rank
        done = [t for t in self.trials if of(t).state == "complete"]
        ordered = sorted(done, key=lambda t: (rank(of(t).values[0]), t.number))
        unique = {t.row.id: t for t in reversed(ordered) if t.row is not None}
        return [t for t in ordered if t.row is not None and unique[t.row.id] is t][:FINALISTS]

    @cached_property
    def finals(self) -> list[tuple[Trial, int]]:
        """Rounds that re-score the leaders in turn until the tuning work is used."""
        leaders, rest = self.leaders, self.left
        rounds: list[tuple[Trial, int]] = []
        while leaders:
            index, place = divmod(len(rounds), len(leaders))
            trial = leaders[place]
            assert trial.row is not None
            cost = self.planner.cost(trial.row) * len(self.planner.conditions)
            if rest < cost / 2 or cost <= 0:
                break
            rounds.append((trial, self.planner.spec.tuning_seeds + index))
            rest -= cost
        return rounds

    @property
    def finished(self) -> bool:
        """Whether all leaders are re-scored."""
        return all(
            self.ends.of_row(row) is not None
            for trial, index in self.finals
            if trial.row is not None
            for row in self.planner.round(trial.row, index)
        )

    def score(self, trial: Trial) -> tuple[float, ...]:
        """The objectives over all seeds that every leader was scored on; NaN if one failed."""
        seeds = self.planner.spec.tuning_seeds + len(self.finals) // max(1, len(self.leaders))
        if trial not in self.leaders or trial.row is None:
            return self.outcomes.of(trial).values
        rounds = [self.planner.round(trial.row, index) for index in range(seeds)]
        ends = [end for rows in rounds for row in rows if (end := self.ends.of_row(row))]
        return mean([e.values if e.status == "ok" else (math.nan,) for e in ends])

    @property
    def best(self) -> Trial | None:
        """The leader with the best score; None if no trial completed."""
        rank = self.outcomes.rank
        scored = [(t, self.score(t)) for t in self.leaders]
        sound = [(rank(s[0]), t.number, t) for t, s in scored if all(map(math.isfinite, s))]
        return min(sound, default=(0.0, 0, None), key=lambda s: s[:2])[2]
