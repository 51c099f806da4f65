"""Audits: does the work that was recorded agree with what parameters predict and counters see?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from bench.core.cells import Cell, Planned
from bench.core.flops import counted
from bench.core.metering import Meter
from bench.core.methods import FineTuning
from bench.core.units import DEFAULT
from bench.plan.matching import shortest
from bench.record.store import Store
from bench.record.tables import fit_agrees, rows_agree
from bench.runner.cell import sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_fit_problem, make_problem

FLOP_TOLERANCE = 0.01
BATCH = 64
"""Samples of the batch that is run again under the FLOP counter."""


@dataclass(frozen=True)
class Finding:
    """One method of one problem under one budget: predicted, measured, counted."""

    task: str
    reward: str
    method: str
    budget: str
    cells: int
    predicted: float
    measured: float
    rows_equal: bool
    use: float | None
    underused: bool
    upper_bound: bool
    ledger_flops: float | None = None
    counted_flops: float | None = None

    @property
    def flop_error(self) -> float | None:
        """Relative difference of the ledger's FLOPs from the counter's."""
        if self.ledger_flops is None or not self.counted_flops:
            return None
        return self.ledger_flops / self.counted_flops - 1

    @property
    def ok(self) -> bool:
        error = self.flop_error
        return self.rows_equal and (error is None or abs(error) <= FLOP_TOLERANCE)


def audit(store: Store, plan: list[Planned], flops: bool) -> list[Finding]:
    """A finding per method, problem and budget with at least one good cell."""
    groups: dict[tuple[str, ...], list[Planned]] = {}
    for row in plan:
        stored = store.index.last(row.id) if row.status == "pending" else None
        if stored is not None and stored.ok:
            key = (row.task_label, row.reward_label, row.method_label, str(row.budget or ""))
            groups.setdefault(key, []).append(row)
    findings = [_finding(store, key, rows, flops) for key, rows in groups.items()]
    fits = {rows[0].fit.id: (key, rows[0]) for key, rows in groups.items() if rows[0].fit}
    return findings + [_fit_finding(store, key, row, flops) for key, row in fits.values()]


def _finding(store: Store, key: tuple[str, ...], rows: list[Planned], flops: bool) -> Finding:
    first = rows[0]
    stored = [store.index.last(row.id) for row in rows]
    attempts = [found.attempt for found in stored if found is not None]
    unit = first.budget.unit if first.budget else DEFAULT
    measured = sum(attempt.costs[unit] for attempt in attempts) / len(attempts)
    limit = first.budget.per_sample(first.cell.n) if first.budget else None
    task, reward, method, budget = key
    finding = Finding(
        task=task,
        reward=reward,
        method=method,
        budget=budget,
        cells=len(rows),
        predicted=first.predicted.cost(DEFAULT),
        measured=sum(attempt.costs[DEFAULT] for attempt in attempts) / len(attempts),
        rows_equal=all(rows_agree(*pair) for pair in zip(rows, attempts, strict=True)),
        use=measured / limit if limit else None,
        underused=first.underused,
        upper_bound=first.predicted.upper_bound,
    )
    return _with_flops(finding, first) if flops else finding


def _fit_finding(store: Store, key: tuple[str, ...], row: Planned, flops: bool) -> Finding:
    """The ledger of a fit; for its FLOPs the shortest fit is run under the counter."""
    assert row.fit is not None
    stored = store.index.last(row.fit.id)
    assert stored is not None, "cells do not sample before their fit is stored"
    task, reward, method, budget = key
    limit = row.fit.limit
    finding = Finding(
        task=task,
        reward=reward,
        method=f"{method} (fit)",
        budget=budget,
        cells=1,
        predicted=row.fit.predicted.cost(DEFAULT),
        measured=stored.attempt.costs[DEFAULT],
        rows_equal=fit_agrees(row.fit, stored.attempt),
        use=stored.attempt.costs[row.budget.unit] / limit if row.budget and limit else None,
        underused=False,
        upper_bound=row.fit.predicted.upper_bound,
    )
    return _with_fit_flops(finding, row.fit.cell) if flops else finding


def _with_fit_flops(finding: Finding, cell: Cell) -> Finding:
    torch.set_num_threads(cell.threads)
    instances = instances_of(cell)
    assert isinstance(instances.method, FineTuning)
    least = shortest(instances.method)
    priced = Meter(count_flops=True)
    least.fit(make_fit_problem(cell, instances, priced))
    plain = make_fit_problem(cell, instances, Meter())
    seen = counted(lambda: least.fit(plain))
    return replace(finding, ledger_flops=priced.work().flops, counted_flops=seen)


def _with_flops(finding: Finding, row: Planned) -> Finding:
    """Run one batch of the cell again, under the meter and under the counter."""
    cell = replace(row.cell.each[0], n=min(row.cell.n, BATCH))
    torch.set_num_threads(cell.threads)
    instances = instances_of(cell)

    priced = Meter(count_flops=True)
    sample_in_batches(instances.method, make_problem(cell, instances, priced, range(cell.n)), cell)
    plain = make_problem(cell, instances, Meter(), range(cell.n))
    seen = counted(lambda: sample_in_batches(instances.method, plain, cell))
    return replace(finding, ledger_flops=priced.work().flops, counted_flops=seen)


def not_matched(cells: pd.DataFrame) -> list[str]:
    """What equal compute leaves unequal, as sentences with figures."""
    ok = cells[cells.status == "ok"]
    if ok.empty:
        return []
    out = [
        _spread(ok, "peak_bytes", 1e6, "MB", "Memory"),
        _spread(ok, "seconds", 1, "s", "Latency"),
    ]
    out.append(
        "Training: learned flows and maps were trained beforehand; what that cost stands in the "
        "recipe beside the weights and in no budget."
    )
    out.append("Tuning: no parameter was tuned in this run, beyond what matching chose.")
    return out


def _spread(ok: pd.DataFrame, column: str, unit: float, name: str, what: str) -> str:
    values: Any = ok.groupby("method")[column].median() / unit
    low, high = values.idxmin(), values.idxmax()
    return (
        f"{what}: median per cell from {values.min():.3g} {name} ({low}) "
        f"to {values.max():.3g} {name} ({high})."
    )
