"""The fit of a cell: its adapted weights and all of its work, by one worker or by many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.core.cells import Cell
from bench.core.finite import all_finite
from bench.core.metering import Meter
from bench.core.methods import FineTuning
from bench.core.returned import checked_fitted
from bench.core.seeding import seed_all
from bench.core.units import DEFAULT
from bench.core.values import Fitted
from bench.core.work import Budget
from bench.core.workers import ALONE, WorkerGroup, is_for_others
from bench.runner.endings import GONE, GOOD, CellResult, Curve, ended_by, spent
from bench.runner.instances import instances_of
from bench.runner.problems import make_fit_problem


def fit(
    cell: Cell, budget: Budget | None, workdir: Path | None, group: WorkerGroup = ALONE
) -> CellResult:
    """Fit the cell's method, or this worker's part of it; the work is this worker's own.

    Parts are equal, and so are their limits.
    """
    instances, curve = instances_of(cell), Curve()
    assert isinstance(instances.method, FineTuning)
    limit = budget.fit_budget / group.size if budget and budget.fit_budget else None
    meter = Meter(limit, budget.unit if budget else DEFAULT, cell.seconds, count_flops=True)
    problem = make_fit_problem(cell, instances, meter, group)
    for part in problem.each:
        part.problem.on_log, part.problem.workdir = curve, workdir
    seed_all(cell.id)  # again: what was loaded for it may be there already on another worker
    try:
        fitted, ending = checked_fitted(instances.method.fit(problem), cell.method), GOOD
    except Exception as error:
        gone = group.size > 1 and is_for_others(error)
        fitted, ending = Fitted({}, {}), GONE if gone else ended_by(error)
    made = CellResult(ending, *spent(meter.work(), per=1), curve=tuple(curve))
    return made if ending != GOOD else _with_weights(made, fitted, cell)


def _with_weights(made: CellResult, fitted: Fitted, cell: Cell) -> CellResult:
    from safetensors.torch import save

    bad = [name for name, value in fitted.state.items() if not all_finite(value)]
    if bad:
        error = FloatingPointError(f"{cell.method} left weights that are not finite: {bad[0]}")
        return replace(made, ending=ended_by(error))
    weights = save({name: value.contiguous() for name, value in fitted.state.items()})
    return replace(made, info={**fitted.record}, fitted=weights)
