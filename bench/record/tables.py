"""The run's tables, made from the plan and the record: cells, metrics, samples, results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.core import plugins
from bench.core.cells import Planned, PlannedFit, canonical, digest
from bench.core.conditions import spelled
from bench.core.params import UserError
from bench.core.units import DEFAULT, UNITS
from bench.core.work import Work
from bench.record import columns, layout
from bench.record.attempt import Attempt, MetricRow, Stored
from bench.record.index import Index
from bench.record.seals import Damaged
from bench.record.store import Store


@dataclass(frozen=True)
class Ending:
    """How a planned row ended: its own attempt, its fit's, and the status that follows."""

    stored: Stored | None
    fit: Stored | None
    status: str
    reason: str


def ending_of(index: Index, row: Planned) -> Ending:
    """A row's ending; a row whose fit did not end well shares its fate."""
    if row.status != "pending":
        return Ending(None, None, row.status, row.reason)
    stored = index.last(row.id)
    fit = None if row.fit is None else index.last(row.fit.id)
    if stored is not None:
        return Ending(stored, fit, stored.attempt.status, stored.attempt.reason)
    if fit is not None and not fit.ok:
        return Ending(None, fit, fit.attempt.status, f"its fit: {fit.attempt.reason}")
    return Ending(None, fit, row.status, row.reason)


TABLES = ("cells", "metrics", "samples", "results")
"""The tables of every run, in the order in which they are written."""


def state_of(index: Index, plan: list[Planned]) -> str:
    """Digest of all that the tables of a plan are made from: its rows and what is stored of them.

    Tables of another state are stale.
    """
    lines = [_state(row, ending_of(index, row)) for row in plan]
    return digest([columns.SCHEMA_VERSION, version("tiltbench"), lines])


def _state(row: Planned, ending: Ending) -> list[Any]:
    seals = [stored and (stored.number, stored.seal) for stored in (ending.stored, ending.fit)]
    labels = (row.task_label, row.reward_label, row.method_label)
    return [row.row, *labels, ending.status, ending.reason, *seals]


def tables_are_current(store: Store, plan: list[Planned]) -> bool:
    """Whether the tables are whole, and made from what is stored now."""
    state, files = state_of(store.index, plan), map(layout.table, TABLES)
    return all(store.projections.current(file, state) for file in files)


def write_tables(store: Store, plan: list[Planned]) -> None:
    """Write cells, metrics, samples and results of everything planned.

    What is found damaged on the way is as if it had never been stored, in all tables alike.
    """
    known = -1
    while known < len(store.index.damaged):
        known = len(store.index.damaged)
        tables = _tables(store, plan)
    state = state_of(store.index, plan)
    for name in TABLES:
        store.save_table(name, tables[name], of=state)


def _tables(store: Store, plan: list[Planned]) -> dict[str, pd.DataFrame]:
    endings = [(row, ending_of(store.index, row)) for row in plan]
    ran = {row.id: row for row, ending in endings if ending.stored is not None}
    cells = _frame((cell_row(row, ending) for row, ending in endings), list(columns.CELLS))
    metrics = _frame(_metric_rows(store.index, ran), list(columns.METRICS))
    return {
        "cells": cells,
        "metrics": metrics.astype({"value": "float64", "standard_error": "float64"}),
        "samples": _samples(store.index, ran),
        "results": _results(cells, metrics),
    }


def _frame(rows: Iterable[Mapping[str, Any]], names: list[str]) -> pd.DataFrame:
    """Rows as a table, filled column by column: a dictionary of every row takes more room."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name, values in found.items():
            values.append(row[name])
    return pd.DataFrame(found, columns=names)


DECLARED = ("summary", "rank", "measures", "floor")
"""What a metric says of itself to its readers."""

NOTHING = Attempt("", "")
"""Stands for the attempt of what did not run: all that it made is unknown."""


def cell_row(row: Planned, ending: Ending) -> dict[str, Any]:
    """One row of cells.parquet."""
    cell, budget, stored = row.cell, row.budget, ending.stored
    attempt = NOTHING if stored is None else stored.attempt
    used = attempt.costs.get(budget.unit if budget else DEFAULT)
    limit = budget.per_sample(cell.n, row.fit.cost if row.fit else 0.0) if budget else None
    return {
        "schema": columns.SCHEMA_VERSION,
        "cell": row.id,
        "task": row.task_label,
        "reward": row.reward_label,
        "strength": cell.strength,
        "condition": _condition(row),
        "conditions": json.dumps(list(map(spelled, cell.conditions)), ensure_ascii=False),
        "method": row.method_label,
        "method_name": cell.method,
        "preset": row.preset,
        **vars(row.about),
        "params": canonical(cell.method_params),
        "matched": canonical(row.matched),
        "budget": str(budget) if budget else "",
        "budget_unit": budget.unit if budget else "",
        "budget_amount": budget.amount if budget else None,
        "seed": cell.seed,
        "n": cell.total,
        "status": ending.status,
        "reason": ending.reason,
        "expected": row.expected,
        "drift": used / row.expected - 1 if used is not None and row.expected > 0 else None,
        "utilisation": used / limit if used is not None and limit else None,
        "underused": row.underused,
        **{unit.column: attempt.costs.get(unit.name) for unit in UNITS.values() if not unit.timed},
        "predicted_paper_nfe": row.predicted.cost(DEFAULT),
        "predicted_equal": rows_agree(row, attempt) if attempt.ok else None,
        **_fit_columns(row.fit, ending.fit),
        "n_served": budget.n_served if budget else None,
        "map_paper_nfe": row.map_training,
        **_measured(stored),
        **{f"sample_{name}": attempt.work.get(name) for name in columns.WORK},
        "threads": cell.threads,
        "info": json.dumps(dict(attempt.info), sort_keys=True),
    }


def _condition(row: Planned) -> str:
    """Of a cell of many, the first and how many more."""
    first, *more = (spelled(one.condition) for one in row.cell.each)
    return f"{first} and {len(more)} more" if more else first


def _held_out(row: Planned) -> set[str]:
    """The conditions of a cell that the fit behind it did not see."""
    cells = () if row.fit is None else row.cell.each
    seen = set() if row.fit is None else {spelled(one.condition) for one in row.fit.cell.each}
    return {spelled(one.condition) for one in cells} - seen


def _measured(stored: Stored | None) -> dict[str, Any]:
    """What the clock and the machine said."""
    attempt = NOTHING if stored is None else stored.attempt
    machine, ran = attempt.machine, stored is not None
    return {
        "seconds": attempt.work.get("seconds"),
        "cell_seconds": attempt.seconds if ran else None,
        "warmup_seconds": attempt.warmup if ran else None,
        "joules": machine.get("joules"),
        "peak_bytes": attempt.work.get("peak_bytes"),
        **{name: machine.get(name, "") for name in (*columns.MADE, "finished")},
        "attempt": None if stored is None else stored.number,
    }


def _fit_columns(fit: PlannedFit | None, stored: Stored | None) -> dict[str, Any]:
    """The ledger of the fit that a row samples from; of the whole fit, not per sample."""
    attempt = NOTHING if stored is None else stored.attempt
    none = 0.0 if fit is None else None
    return {
        "fit": fit.id if fit else "",
        "fit_paper_nfe": attempt.costs.get("paper-nfe", none),
        "fit_model_nfe": attempt.costs.get("model-nfe", none),
        "fit_flops_total": attempt.costs.get("flops", none),
        "fit_seconds_total": attempt.work.get("seconds", none),
        "predicted_fit_paper_nfe": fit.predicted.cost(DEFAULT) if fit else 0.0,
        "fit_predicted_equal": fit_agrees(fit, attempt) if fit and attempt.ok else None,
        **{f"fit_{name}": attempt.work.get(name) for name in columns.WORK},
    }


def fit_agrees(fit: PlannedFit, attempt: Attempt) -> bool:
    """Whether the measured rows of a fit are the predicted ones."""
    return _rows_within(fit.predicted, attempt.work)


def rows_agree(row: Planned, attempt: Attempt) -> bool:
    """Whether the measured rows are the predicted ones, to the row (or within a declared bound)."""
    return _rows_within(row.predicted * row.cell.total, attempt.work)


def _rows_within(predicted: Work, measured: Mapping[str, float]) -> bool:
    slack, rows = float("inf") if predicted.upper_bound else 1e-6, predicted.flat()
    return all(
        rows[name] - slack * max(1.0, rows[name])
        <= measured[name]
        <= rows[name] + 1e-6 * max(1.0, rows[name])
        for name in columns.WORK
    )


def _metric_rows(index: Index, ran: Mapping[str, Planned]) -> Iterator[dict[str, Any]]:
    for cell, planned in ran.items():
        rows = map(_declared, index.metrics(cell).values())
        whole, unseen = _condition(planned), _held_out(planned)
        for row in rows:
            under = {"condition": row.condition or whole, "held_out": row.condition in unseen}
            yield {"cell": cell, **vars(row), **under}


def _declared(row: MetricRow) -> MetricRow:
    """A stored row; one from before metrics declared anything is completed by its class."""
    silent = all(getattr(row, f.name) == f.default for f in fields(row) if f.name in DECLARED)
    return replace(row, **_declarations(row.metric)) if silent else row


@cache
def _declarations(metric: str) -> dict[str, Any]:
    """What the metric of that name says of itself, if there is one that can be loaded."""
    try:
        cls = plugins.load("metrics", metric)
    except UserError:
        return {}
    return {name: getattr(cls, name) for name in DECLARED}


def _samples(index: Index, ran: Mapping[str, Planned]) -> pd.DataFrame:
    """One row per returned sample with its scores."""
    found: dict[str, pa.Table] = {}
    for cell in ran:
        try:
            scores = index.scores(cell)
        except Damaged:
            scores = None
        if scores is not None:
            found[cell] = scores.replace_schema_metadata(None)
    if not found:
        return pd.DataFrame(columns=["cell", "condition", "index", "held_out", "reward"])
    whole = pa.concat_tables(found.values(), promote_options="permissive")
    joined: pd.DataFrame = whole.to_pandas()
    sizes = [scores.num_rows for scores in found.values()]
    under = [c for cell, size in zip(found, sizes, strict=True) for c in _under(ran[cell], size)]
    unseen = [_held_out(ran[cell]) for cell in found]
    whose = np.repeat(np.arange(len(sizes)), sizes)
    joined.insert(0, "cell", np.repeat(list(found), sizes))
    joined.insert(1, "condition", under)
    joined.insert(2, "index", np.concatenate([np.arange(size) for size in sizes]))
    joined.insert(3, "held_out", [c in unseen[k] for c, k in zip(under, whose, strict=True)])
    return joined


def _under(row: Planned, size: int) -> list[str]:
    """The condition of each of a cell's samples.

    What was stopped may have kept fewer samples, of its one condition.
    """
    own, n = [spelled(one.condition) for one in row.cell.each], row.cell.n
    return [own[k // n] for k in range(size)] if len(own) > 1 else own * size


def _results(cells: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """The join for people; a failed cell keeps one row with an empty metric."""
    left = cells.drop(columns=["version", "schema"]).rename(columns={"condition": "whole"})
    joined = left.merge(metrics.drop(columns=["n"]), on="cell", how="left")
    own = joined["condition"]
    joined["condition"] = own.where(own.notna(), joined["whole"])
    return joined[list(columns.RESULTS)]
