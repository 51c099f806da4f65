"""Planning: from a suite to rows, each a cell whose parameters spend its budget, or a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.core import plugins
from bench.core.cells import About, Cell, Planned, PlannedFit, canonical, plain_values
from bench.core.contracts import FineTuning, Method, ProblemSpec
from bench.core.params import UserError, parse_name
from bench.core.work import KINDS, ROLES, Budget, Kind, Role, Work, row_weight
from bench.plan.binding import Bound, bind, lacking
from bench.plan.matching import Cost, Match, match, match_fit
from bench.plan.suite import Block, Suite, parse_budget

Rates = Mapping[tuple[Role, Kind], float]
"""Cost of one row of each role and kind."""


@dataclass(frozen=True)
class Question:
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

    def match(self, cost: Cost) -> Match:
        """The answer under a cost of work."""
        return match(self.method, self.spec, self.limit, cost, self.given)


class Pilot(Protocol):
    """Answers questions that rows alone do not decide (FLOPs, seconds)."""

    def match(self, question: Question) -> Match: ...

    def fit_rates(self, question: Question) -> Rates:
        """The cost of one row of each role and kind in the fit of the question's method."""
        ...

    def begin(self) -> None:
        """A comparison begins: earlier answers are no part of it."""
        ...

    def settle(self) -> bool:
        """Compare the answers given since with each other; True if any may have changed."""
        ...


def expand(suite: Suite, pilots: Pilot | None = None) -> list[Planned]:
    """All rows of a suite, in order, without duplicates.

    Budgets in FLOPs or seconds need `pilots`.
    """
    if pilots is not None:
        pilots.begin()
    rows = _expanded(suite, pilots)
    return _expanded(suite, pilots) if pilots is not None and pilots.settle() else rows


def _expanded(suite: Suite, pilots: Pilot | None) -> list[Planned]:
    rows: dict[str, Planned] = {}
    for block in suite.blocks:
        for task_text in block.tasks:
            for reward_text in block.rewards:
                for row in _planned(block, task_text, reward_text, pilots):
                    rows.setdefault(row.row, row)
    return list(rows.values())


def _planned(block: Block, task_text: str, reward_text: str, pilots: Pilot | None) -> list[Planned]:
    """Rows of one task and reward; what a plugin raises while planning is a UserError."""
    try:
        return _rows(block, bind(task_text, reward_text), pilots)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"planning {task_text} with {reward_text} failed in a plugin "
            f"({type(error).__name__}: {error}): run 'bench check' on it"
        ) from error


def _rows(block: Block, bound: Bound, pilots: Pilot | None) -> list[Planned]:
    budgets = [parse_budget(text) for text in block.budgets]
    methods = [(m, b) for b in budgets for m in block.with_baselines(b)]
    settings = [(c, m, b) for c in bound.task.conditions("report") for m, b in methods]
    first = block.seed_list()[0]
    rows = [_row(block, bound, pilots, *setting, first) for setting in settings]
    return [
        replace(row, cell=replace(row.cell, seed=seed))
        for row in rows
        for seed in block.seed_list()
    ]


def _row(
    block: Block,
    bound: Bound,
    pilots: Pilot | None,
    condition: Any,
    method_text: str,
    budget: Budget | None,
    seed: int,
) -> Planned:
    """One row; matching depends on neither condition nor seed."""
    name, given = parse_name(method_text)
    method: Method[Any] = plugins.load("methods", name).create(**given)
    refusal = bound.refusal or lacking(method, bound.spec, bound.task)
    found: Match | None = None
    fit, unaffordable = None, ""
    cell = _cell(block, bound, condition, name, method, seed)
    if refusal is None and isinstance(method, FineTuning):
        question = Question(cell, method, bound.spec, budget or UNLIMITED, given)
        method, fit, unaffordable = plan_fit(question, pilots, limited=budget is not None)
    if refusal is None and budget is not None:
        spent = 0.0 if fit is None else fit.cost
        found = _match(Question(cell, method, bound.spec, budget, given, spent), pilots)
        method = method.with_params(**found.values)
    status, reason = _status(refusal, found, budget, unaffordable)
    cell = _cell(block, bound, condition, name, method, seed)
    return Planned(
        cell=cell if fit is None else replace(cell, fit=fit.id),
        task_label=bound.task_label,
        reward_label=bound.reward_label,
        method_label=method_text,
        budget=budget,
        status=status,
        reason=reason,
        matched={} if found is None else found.values,
        predicted=Work() if refusal else method.work(bound.spec),
        use=float("nan") if found is None else found.use,
        expected=float("nan") if found is None else found.cost,
        map_training=_map_training(method, bound, refusal),
        underused=found is not None and found.underused,
        alternatives=() if found is None else found.alternatives,
        fit=fit,
        about=About(method.summary, method.standing, method.tag, bound.task.summary),
    )


UNLIMITED = Budget("paper-nfe", float("inf"))
"""Stands for no budget where only the unit matters."""


def plan_fit(
    question: Question, pilots: Pilot | None, limited: bool
) -> tuple[FineTuning[Any], PlannedFit, str]:
    """The method with its fit matched to `fit_budget`, the fit, and why it cannot be afforded."""
    method, budget, reason = question.method, question.budget, ""
    matched: dict[str, Any] = {}
    assert isinstance(method, FineTuning)
    if budget.unit in ("paper-nfe", "model-nfe"):
        rates: Rates = {(r, k): row_weight(budget.unit, r, k) for r in ROLES for k in KINDS}
    else:
        rates = _needed(pilots, budget.unit).fit_rates(question)
    if limited and budget.fit_budget is not None:
        found = match_fit(
            method, question.spec, budget.fit_budget, lambda w: w.priced(rates), question.given
        )
        chosen = method.with_params(**found.values)
        assert isinstance(chosen, FineTuning)
        method, matched = chosen, found.values
        if not found.feasible:
            reason = f"the fit needs at least {found.needed:g} {budget.unit}"
    predicted = method.fit_work(question.spec)
    cell = fit_cell(question.cell, method)
    cost = predicted.priced(rates)
    return method, PlannedFit(cell, predicted, cost, budget.fit_budget, matched), reason


def fit_cell(cell: Cell, method: FineTuning[Any]) -> Cell:
    """The fit behind a sampling cell: only what decides the fit, so that cells share it."""
    values = {k: v for k, v in plain_values(method.params).items() if k not in method.sampling}
    seed = int(values.get("fit_seed", 0))
    return replace(cell, method_params=values, seed=seed, n=0, part="fit", fit="")


def _map_training(method: Method[Any], bound: Bound, refusal: str | None) -> float:
    """Paper-nfe of training the map, for methods that use it."""
    uses = refusal is None and method.work(bound.spec).map.total > 0
    return bound.task.training().get("map", 0.0) if uses else 0.0


def _match(question: Question, pilots: Pilot | None) -> Match:
    unit = question.budget.unit
    if unit in ("paper-nfe", "model-nfe"):
        return question.match(lambda work: work.cost(unit))
    return _needed(pilots, unit).match(question)


def _needed(pilots: Pilot | None, unit: str) -> Pilot:
    if pilots is None:
        raise UserError(f"budgets in {unit} need a pilot run: use bench run or bench plan")
    return pilots


def _status(
    refusal: str | None, found: Match | None, budget: Budget | None, unaffordable: str
) -> tuple[str, str]:
    if refusal is not None:
        return "skipped", refusal
    if unaffordable:
        return "infeasible", unaffordable
    if found is not None and not found.feasible:
        assert budget is not None
        share = " besides its share of the fit" if budget.n_served else ""
        return "infeasible", f"needs at least {found.needed:g} {budget.unit} per sample{share}"
    return "pending", ""


def _cell(
    block: Block, bound: Bound, condition: Any, name: str, method: Method[Any], seed: int
) -> Cell:
    task_name = parse_name(bound.task_label)[0]
    reward_name = parse_name(bound.reward_label)[0]
    return Cell(
        task=task_name,
        task_params=plain_values(bound.task.params),
        reward=reward_name,
        reward_params=plain_values(bound.reward.params),
        strength=bound.strength,
        condition=condition,
        method=name,
        method_params=plain_values(method.params),
        n=block.n,
        seed=seed,
        threads=block.threads,
        versions={
            "task": plugins.version_of("tasks", task_name),
            "reward": plugins.version_of("rewards", reward_name),
            "method": plugins.version_of("methods", name),
        },
        weights={**bound.task.weights(), **bound.reward.weights(), **method.weights()},
        batch=block.batch,
        seconds=block.seconds,
    )
