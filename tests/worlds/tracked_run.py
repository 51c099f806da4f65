"""A small run with two good cells and a failed one, a database for it, and what MLflow shows."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from bench.core.cells import Cell, Planned
from bench.core.work import Budget, Rows, Work
from bench.record.attempt import Attempt, MetricRow
from bench.record.store import Store
from bench.record.tables import write_tables
from bench.tracking.database import connect, create_database
from bench.tracking.mirror import PARENT

WORK = Work(flow=Rows(40), reward=Rows(4, 2), seconds=0.5)
BUDGET = Budget("paper-nfe", 20)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A migrated database, which costs seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    create_database(path, MlflowClient)
    return path


@pytest.fixture
def root(tmp_path, template, monkeypatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    shutil.copy(template, tmp_path / "mlflow.db")
    return tmp_path


def planned(method: str, seed: int = 0, status: str = "pending", **params: object) -> Planned:
    cell = Cell("toy", {}, "flat", {}, 2.0, None, method, params, 4, seed, 1, {}, {})
    return Planned(
        cell, "toy", "flat", method, BUDGET, status=status, predicted=WORK * (1 / cell.n)
    )


def metric(name: str, value: float | None, version: str = "1", note: str = "") -> MetricRow:
    return MetricRow(
        name, version, "tiltbench", "higher", value=value, standard_error=0.25, n=4, note=note
    )


def attempt_of(row: Planned, status: str = "ok", reason: str = "", **more: object) -> Attempt:
    points = np.random.default_rng(row.cell.seed).normal(size=(4, 2)).astype(np.float32)
    content = {
        "work": {**WORK.flat(), "peak_bytes": 1e6},
        "costs": {unit: WORK.cost(unit) / 4 for unit in ("paper-nfe", "model-nfe", "flops")},
        "info": {"ess": 3.5},
        "seconds": 1.5,
        "samples": save({"x": points}),
        "metrics": [metric("reward", 1.25 + row.cell.seed), metric("judge", None, note="too few")],
        "curve": [{"step": k, "ess": 4.0 - k} for k in range(3)],
        "machine": {"finished": f"2026-01-02T03:04:0{row.cell.seed}+00:00", "device": "cpu"},
    }
    return Attempt(row.id, status, reason, **(content | more))


def failure(row: Planned) -> Attempt:
    empty = {"work": {}, "costs": {}, "samples": b"", "metrics": [], "curve": []}
    return attempt_of(row, "failed", "ValueError: no steps", log="Traceback: steps", **empty)


PLAN = [
    planned("prior", steps=10),
    planned("prior", seed=1, steps=10),
    planned("dps", steps=5, scale="exact"),
    replace(planned("exact", status="skipped"), reason="needs oracle"),
    replace(planned("rollout", status="infeasible"), reason="needs at least 30 paper-nfe"),
]


def stored(root: Path, plan: list[Planned], good: int) -> Store:
    """A run of which so many cells ended well and the next one failed; those behind never ran."""
    made = Store(str(root), "demo")
    made.open()
    made.save_suite({"name": "demo", "description": "a small one", "blocks": []})
    for row in plan[:good]:
        made.index.save(row.cell, attempt_of(row))
    made.index.save(plan[good].cell, failure(plan[good]))
    write_tables(made, plan)
    return made


@pytest.fixture
def store(root) -> Store:
    """Two good cells, a failed one, and two rows that were never run."""
    return stored(root, PLAN, good=2)


def runs(store: Store, experiment: str = "tiltbench") -> tuple[list, list]:
    """Parents and children in MLflow."""
    client = connect(store)
    number = client.get_experiment_by_name(experiment).experiment_id
    found = client.search_runs([number], max_results=1000)
    return (
        [run for run in found if PARENT not in run.data.tags],
        [run for run in found if PARENT in run.data.tags],
    )


def snapshot(store: Store, experiment: str = "tiltbench") -> list[dict]:
    """Everything that MLflow shows of a suite, but for run ids."""
    parents, children = runs(store, experiment)
    client = connect(store)
    shown = [
        {
            "title": run.info.run_name,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "metrics": {
                name: [(m.step, m.value, m.timestamp) for m in client.get_metric_history(id_, name)]
                for id_ in [run.info.run_id]
                for name in run.data.metrics
            },
            "tags": {k: v for k, v in run.data.tags.items() if k != PARENT},
            "files": [(f.path, f.file_size) for f in client.list_artifacts(run.info.run_id)],
        }
        for run in [*parents, *children]
    ]
    return sorted(shown, key=lambda run: run["tags"].get("tiltbench.row", ""))


def dump(root: Path) -> list[str]:
    with sqlite3.connect(root / "mlflow.db") as database:
        return list(database.iterdump())
