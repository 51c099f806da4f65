"""The fit behind a sampling cell: its own cell, its predicted work, and what it may cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.core.cells import Cell, PlannedFit, plain_values
from bench.core.methods import FineTuning
from bench.core.params import UserError
from bench.core.units import DEFAULT
from bench.core.work import Budget
from bench.plan.matching import match_fit
from bench.plan.prediction import fit_work
from bench.plan.questions import Answers, MatchingQuestion
from bench.plan.resources import workers_of

UNLIMITED = Budget(DEFAULT, float("inf"))
"""Stands for no budget where only the unit matters."""


def plan_fit(
    question: MatchingQuestion, answers: Answers, limited: bool
) -> tuple[FineTuning[Any], PlannedFit, str]:
    """The method with its fit matched to `fit_budget`, the fit, and why it cannot be afforded."""
    method, budget, reason = question.method, question.budget, ""
    matched: dict[str, Any] = {}
    assert isinstance(method, FineTuning)
    prices = answers.prices(question)
    if limited and budget.fit_budget is not None:
        found = match_fit(
            method, question.spec, budget.fit_budget, lambda w: w.priced(prices), question.given
        )
        chosen = method.with_params(**found.values)
        assert isinstance(chosen, FineTuning)
        method, matched = chosen, found.values
        if not found.feasible:
            reason = f"the fit needs at least {found.needed:g} {budget.unit}"
    predicted = fit_work(method, question.spec)
    cell = fit_cell(question.cell, method)
    check_workers(cell, method)
    cost = predicted.priced(prices)
    return method, PlannedFit(cell, predicted, cost, budget.fit_budget, matched), reason


def check_workers(cell: Cell, method: FineTuning[Any]) -> None:
    """Raise UserError where a fit cannot be shared by as many workers as its resources ask for."""
    workers, rows = workers_of(cell), method.shared_rows
    if workers == 1:
        return
    if rows is None:
        raise UserError(
            f"the fit of '{cell.method}' cannot be shared: leave `workers` out of its resources, "
            "or give it a block of its own"
        )
    if rows % workers:
        raise UserError(
            f"{workers} workers cannot share the {rows} rows of a step of '{cell.method}' equally: "
            "use a number that divides them, or another `batch` of the method"
        )


def fit_cell(cell: Cell, method: FineTuning[Any]) -> Cell:
    """The fit behind a sampling cell: only what decides the fit, so that cells share it."""
    values = {k: v for k, v in plain_values(method.params).items() if k not in method.sampling}
    seed = int(values.get("fit_seed", 0))
    return replace(cell, method_params=values, seed=seed, n=0, part="fit", fit="")
