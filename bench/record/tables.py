"""The run's tables, made from the plan and the store: cells, metrics, samples, results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import pandas as pd

from bench.core import plugins
from bench.core.cells import Planned, canonical
from bench.core.params import UserError, parse_name
from bench.core.units import DEFAULT, KINDS
from bench.core.work import Work
from bench.record.store import Store, Stored

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Ending:
    """How a planned row ended: its own attempt, its fit's, and the status that follows."""

    stored: Stored | None
    fit: Stored | None
    status: str
    reason: str


def outcome_of(store: Store, row: Planned) -> Ending:
    """A row's ending; a row whose fit did not end well shares its fate."""
    if row.status != "pending":
        return Ending(None, None, row.status, row.reason)
    stored = store.last(row.id)
    fit = None if row.fit is None else store.last(row.fit.id)
    if stored is not None:
        return Ending(stored, fit, stored.result["status"], stored.result["reason"])
    if fit is not None and not fit.ok:
        return Ending(None, fit, fit.result["status"], f"its fit: {fit.result['reason']}")
    return Ending(None, fit, row.status, row.reason)


def write_tables(store: Store, plan: list[Planned]) -> None:
    """Write cells, metrics, samples and results of everything planned."""
    endings = [outcome_of(store, row) for row in plan]
    stored = {row.id: end.stored for row, end in zip(plan, endings, strict=True)}
    cells = pd.DataFrame([cell_row(r, end) for r, end in zip(plan, endings, strict=True)])
    metrics = pd.DataFrame(_metric_rows(store, stored), columns=METRIC_COLUMNS)
    store.save_table("cells", cells)
    store.save_table("metrics", metrics.astype({"value": "float64", "standard_error": "float64"}))
    store.save_table("samples", _samples(store, stored, plan))
    store.save_table("results", _results(cells, metrics))


DECLARED = ("summary", "rank", "measures", "floor")
"""What a metric says of itself to its readers."""

METRIC_COLUMNS = [
    "cell",
    "metric",
    "version",
    "implementation",
    "direction",
    *DECLARED,
    "value",
    "standard_error",
    "n",
    "note",
]


def cell_row(row: Planned, ending: Ending) -> dict[str, Any]:
    """One row of cells.parquet."""
    cell, budget, stored = row.cell, row.budget, ending.stored
    result = stored.result if stored else {}
    costs = result.get("costs", {})
    unit = budget.unit if budget else DEFAULT
    used = costs.get(unit)
    limit = budget.per_sample(cell.n, row.fit.cost if row.fit else 0.0) if budget else None
    return {
        "schema": SCHEMA_VERSION,
        "cell": row.id,
        "task": row.task_label,
        "reward": row.reward_label,
        "strength": cell.strength,
        "condition": "" if cell.condition is None else str(cell.condition),
        "method": row.method_label,
        "method_name": cell.method,
        **asdict(row.about),
        "params": canonical(cell.method_params),
        "matched": canonical(row.matched),
        "budget": str(budget) if budget else "",
        "budget_unit": budget.unit if budget else "",
        "budget_amount": budget.amount if budget else None,
        "seed": cell.seed,
        "n": cell.n,
        "status": ending.status,
        "reason": ending.reason,
        "expected": row.expected,
        "drift": used / row.expected - 1 if used is not None and row.expected > 0 else None,
        "utilisation": used / limit if used is not None and limit else None,
        "underused": row.underused,
        "paper_nfe": costs.get("paper-nfe"),
        "model_nfe": costs.get("model-nfe"),
        "flops": costs.get("flops"),
        "predicted_paper_nfe": row.predicted.cost("paper-nfe"),
        "predicted_equal": _equal(row, result),
        **_fit_columns(row, ending.fit),
        "n_served": budget.n_served if budget else None,
        "map_paper_nfe": row.map_training,
        "seconds": result.get("work", {}).get("seconds"),
        "cell_seconds": result.get("seconds"),
        "warmup_seconds": result.get("warmup"),
        "joules": result.get("machine", {}).get("joules"),
        "peak_bytes": result.get("work", {}).get("peak_bytes"),
        **{f"sample_{k}": v for k, v in result.get("work", {}).items() if _is_rows(k)},
        "device": result.get("machine", {}).get("device", ""),
        "threads": cell.threads,
        "version": result.get("machine", {}).get("version", ""),
        "torch": result.get("machine", {}).get("torch", ""),
        "info": json.dumps(result.get("info", {}), sort_keys=True),
        "attempt": stored.attempt if stored else None,
        "finished": result.get("machine", {}).get("finished", ""),
    }


def _fit_columns(row: Planned, stored: Stored | None) -> dict[str, Any]:
    """The ledger of the fit that a row samples from; of the whole fit, not per sample."""
    result = stored.result if stored else {}
    costs, work = result.get("costs", {}), result.get("work", {})
    return {
        "fit": row.fit.id if row.fit else "",
        "fit_paper_nfe": costs.get("paper-nfe", 0.0 if row.fit is None else None),
        "fit_model_nfe": costs.get("model-nfe", 0.0 if row.fit is None else None),
        "fit_flops_total": costs.get("flops", 0.0 if row.fit is None else None),
        "fit_seconds_total": work.get("seconds", 0.0 if row.fit is None else None),
        "predicted_fit_paper_nfe": row.fit.predicted.cost("paper-nfe") if row.fit else 0.0,
        "fit_predicted_equal": fit_agrees(row, result) if stored and stored.ok else None,
        **{f"fit_{k}": v for k, v in work.items() if _is_rows(k)},
    }


def fit_agrees(row: Planned, result: dict[str, Any]) -> bool:
    """Whether the measured rows of a fit are the predicted ones."""
    assert row.fit is not None
    return _rows_within(row.fit.predicted, result["work"])


def _is_rows(column: str) -> bool:
    return column.rsplit("_", 1)[-1] in KINDS


def _equal(row: Planned, result: dict[str, Any]) -> bool | None:
    """`rows_agree` for finished cells, None for others."""
    return rows_agree(row, result) if result.get("status") == "ok" else None


def rows_agree(row: Planned, result: dict[str, Any]) -> bool:
    """Whether the measured rows are the predicted ones, to the row (or within a declared bound)."""
    return _rows_within(row.predicted * row.cell.n, result["work"])


def _rows_within(predicted: Work, measured: dict[str, float]) -> bool:
    slack = float("inf") if predicted.upper_bound else 1e-6
    return all(
        v - slack * max(1.0, v) <= measured[k] <= v + 1e-6 * max(1.0, v)
        for k, v in predicted.flat().items()
        if _is_rows(k)
    )


def _metric_rows(store: Store, stored: dict[str, Stored | None]) -> list[dict[str, Any]]:
    rows = []
    for cell, attempt in stored.items():
        if attempt is None:
            continue
        kept = store.metrics(cell, attempt.attempt).values()
        rows += [{"cell": cell, **_declared(row)} for row in kept]
    return rows


def _declared(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row with what its metric declares.

    Rows from before metrics declared anything are completed by the class of that name, if there is
    one that can be loaded.
    """
    own = {k: v for k, v in row.items() if k != "attempt"}
    return own if own.keys() >= {*DECLARED} else {**_declarations(row["metric"]), **own}


@cache
def _declarations(metric: str) -> dict[str, Any]:
    try:
        cls = plugins.load("metrics", metric)
    except UserError:
        return {}
    return {name: getattr(cls, name) for name in DECLARED}


def _samples(store: Store, stored: dict[str, Stored | None], plan: list[Planned]) -> pd.DataFrame:
    """One row per returned sample with its scores."""
    condition = {row.id: row.cell.condition for row in plan}
    frames = []
    for cell, attempt in stored.items():
        scores = store.scores(cell, attempt.attempt) if attempt else None
        if scores is None:
            continue
        scores.insert(0, "cell", cell)
        scores.insert(1, "condition", "" if condition[cell] is None else str(condition[cell]))
        scores.insert(2, "index", range(len(scores)))
        frames.append(scores)
    empty = pd.DataFrame(columns=["cell", "condition", "index", "reward"])
    return pd.concat(frames, ignore_index=True) if frames else empty


RESULT_COLUMNS = [
    "task",
    "reward",
    "strength",
    "condition",
    "method",
    "budget",
    "seed",
    "n",
    "status",
    "reason",
    "metric",
    "value",
    "standard_error",
    "direction",
    "implementation",
    "version",
    "note",
    "paper_nfe",
    "model_nfe",
    "utilisation",
    "underused",
    "seconds",
    "cell",
]


def _results(cells: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """The join for people; a failed cell keeps one row with an empty metric."""
    left = cells.drop(columns=["version", "schema"])
    joined = left.merge(metrics.drop(columns=["n"]), on="cell", how="left")
    return joined[RESULT_COLUMNS]


def task_names(plan: list[Planned]) -> set[str]:
    """Names of the tasks in a plan, without parameters."""
    return {parse_name(row.task_label)[0] for row in plan}
