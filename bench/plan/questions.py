"""What matching is asked, and who answers: rows alone where they decide, pilots elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.core.cells import Cell, canonical, plain_values
from bench.core.methods import Method
from bench.core.params import UserError
from bench.core.units import UNITS, Kind, Role
from bench.core.values import ProblemSpec
from bench.core.work import Budget
from bench.plan.matching import Cost, Match, match

RowPrices = Mapping[tuple[Role, Kind], float]
"""Cost of one row of each role and kind."""


@dataclass(frozen=True)
class MatchingQuestion:
    """What matching is asked: which effort of `method` spends `budget` on this cell's problem?

    `fit_cost` is what the fit behind the samples costs, in the budget's unit.
    """

    cell: Cell
    method: Method[Any]
    spec: ProblemSpec
    budget: Budget
    given: dict[str, Any]
    fit_cost: float = 0.0

    @property
    def limit(self) -> float:
        """The budget per returned sample."""
        return self.budget.per_sample(self.cell.n, self.fit_cost)

    @property
    def group(self) -> str:
        """The problem and the budget: what methods are compared on."""
        c = self.cell
        return canonical(
            [c.task, c.task_params, c.reward, c.reward_params, c.strength, c.n, str(self.budget)]
        )

    @property
    def decisive(self) -> tuple[Any, ...]:
        """All that the answer depends on where rows are counted: parameters, shapes and flags."""
        params = canonical(plain_values(self.method.params))
        given = tuple(sorted(self.given))
        return type(self.method), params, given, self.spec, self.budget.unit, self.limit

    def match(self, cost: Cost) -> Match:
        """The answer under a cost of work."""
        return match(self.method, self.spec, self.limit, cost, self.given)


class Pilot(Protocol):
    """Answers questions that rows alone do not decide (FLOPs, seconds)."""

    def match(self, question: MatchingQuestion) -> Match: ...

    def fit_rates(self, question: MatchingQuestion) -> RowPrices:
        """The cost of one row of each role and kind in the fit of the question's method."""
        ...

    def begin(self) -> None:
        """A comparison begins: earlier answers are no part of it."""
        ...

    def settle(self) -> bool:
        """Compare the answers given since with each other; True if any may have changed."""
        ...


@dataclass(frozen=True)
class Answers:
    """The answers of one plan: each question of counted rows is worked out once."""

    pilots: Pilot | None = None
    counted: dict[tuple[Any, ...], Match] = field(default_factory=dict)

    def match(self, question: MatchingQuestion) -> Match:
        """What spends the question's budget."""
        unit = question.budget.unit
        if UNITS[unit].piloted:
            return self._needed(unit).match(question)
        key = question.decisive
        if key not in self.counted:
            self.counted[key] = question.match(lambda work: work.cost(unit))
        return self.counted[key]

    def prices(self, question: MatchingQuestion) -> RowPrices:
        """What a row of each role and kind of the method's fit costs, in the budget's unit."""
        unit = question.budget.unit
        return UNITS[unit].weights or self._needed(unit).fit_rates(question)

    def _needed(self, unit: str) -> Pilot:
        if self.pilots is None:
            raise UserError(f"budgets in {unit} need a pilot run: use bench run or bench plan")
        return self.pilots
