"""The record of a sweep: sweep.json (what was asked and proposed) and the tables of what came out.

    sweep.json         spec, versions, space and proposals of every study
    trials.parquet     one row per trial: parameters, state, objectives, tuning work
    tuning.parquet     one row per method: default against tuned, cost, selection optimism
    importance.parquet how much each parameter decides each objective

Cells are stored as in any run; a trial's outcome follows from them, so that the proposals are all
that has to be written down.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.cells import Planned, canonical
from bench.core.params import UserError
from bench.record.store import Store
from sweeps.proposals import rebuild
from sweeps.spec import TUNING_SEED, Spec
from sweeps.study import Study, Trial

SCHEMA = 1
SWEEP = "sweep.json"
SQLITE = "optuna.sqlite3"
FEWEST = 4
"""Complete trials below which no importance is given."""


def versions() -> dict[str, str]:
    """Versions that decide proposals and samples."""
    return {name: version(name) for name in ("tiltbench", "optuna", "torch")}


def read(store: Store, spec: Spec) -> dict[str, list[dict[str, Any]]]:
    """The proposals of an earlier driver by study; UserError if it swept something else."""
    if not store.has(SWEEP):
        return {}
    kept = json.loads(store.read(SWEEP))
    if kept["identity"] != json.loads(canonical(spec.identity())):
        raise UserError(
            f"{store.path} holds another sweep: give this one another --name, or repeat the "
            "command that began it"
        )
    return {study["id"]: study["trials"] for study in kept["studies"]}


def write(store: Store, spec: Spec, studies: Sequence[Study]) -> None:
    """Write sweep.json in one step."""
    content = {
        "schema": SCHEMA,
        "identity": spec.identity(),
        "spec": asdict(spec),
        "versions": versions(),
        "studies": [
            {
                "id": study.id,
                "method": study.label,
                "total": study.total,
                "space": study.planner.space.describe(),
                "trials": study.records(),
            }
            for study in studies
        ],
    }
    # Not sorted: the order of a proposal's values is that of its label, also when it is read again.
    store.write(SWEEP, json.dumps(content, indent=1).encode())


# -- tables ---------------------------------------------------------------------------------------


def problem(study: Study) -> dict[str, str]:
    """The columns that say which comparison a row belongs to."""
    spec = study.spec
    return {
        "task": study.planner.bound.task_label,
        "reward": study.planner.bound.reward_label,
        "budget": str(spec.limit),
        "method": study.label,
        "study": study.id,
    }


def trials_table(studies: Sequence[Study]) -> pd.DataFrame:
    """One row per trial; `spent` is the method's tuning work up to and with it."""
    return pd.DataFrame([row for study in studies for row in _trial_rows(study)])


def _trial_rows(study: Study) -> Iterator[dict[str, Any]]:
    best = study.best if study.closed else None
    for trial in study.trials:
        found = study.outcome(trial)
        values = dict(zip(study.spec.objectives, found.values, strict=False))
        yield {
            **problem(study),
            "trial": trial.number,
            "label": trial.label,
            "state": found.state,
            "reason": found.reason,
            "params": canonical(trial.params),
            "objectives": canonical(values),
            "directions": canonical(
                dict(zip(study.spec.objectives, study.directions, strict=True))
            ),
            "value": found.values[0] if found.values else None,
            "seeds": len(found.means),
            "use": trial.row.use if trial.row else None,
            "work": study.spent([trial]),
            "spent": study.spent(study.trials[: trial.number + 1]),
            "leader": study.closed and any(trial is leader for leader in study.leaders),
            "selected": trial is best,
            "cells": canonical(sorted({row.id for row in ended_rows(study, trial)})),
        }


def ended_rows(study: Study, trial: Trial) -> list[Planned]:
    """The rows of a trial that have ended, re-scoring included."""
    rounds = range(study.spec.tuning_seeds)
    extra = [i for t, i in study.finals if t is trial] if study.closed else []
    rows = [r for i in [*rounds, *extra] if trial.row for r in study.planner.round(trial.row, i)]
    return [row for row in rows if study.ended(row) is not None]


def tuning_rows(studies: Sequence[Study]) -> list[Planned]:
    """The rows of all trials that ended, every cell once, for the run's ordinary tables."""
    rows = (row for s in studies for trial in s.trials for row in ended_rows(s, trial))
    return list({row.id: row for row in rows}.values())


def selection_table(studies: Sequence[Study], results: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Default against tuned, scored on tuning and on reporting seeds.

    `optimism` is the tuning score minus the reporting score of the tuned configuration.
    """
    return pd.DataFrame([row for s in studies for row in _selection_rows(s, results, sweep)])


def _selection_rows(study: Study, results: pd.DataFrame, sweep: str) -> Iterator[dict[str, Any]]:
    best, default = study.best, study.trials[0]
    if best is None:
        return
    states = [study.outcome(trial).state for trial in study.trials]
    tuned, untuned = study.score(best), study.score(default)
    for index, name in enumerate(study.spec.objectives):
        reported = _reported(study, results, best.label, name)
        yield {
            **problem(study),
            "sweep": sweep,
            "objective": name,
            "direction": study.directions[index],
            "tuned": best.label,
            "trial": best.number,
            "params": canonical(best.params if best.number else {}),
            "default_tuning_score": _at(untuned, index),
            "tuned_tuning_score": _at(tuned, index),
            "default_score": _reported(study, results, study.label, name),
            "tuned_score": reported,
            "optimism": _at(tuned, index) - reported,
            "unit": study.spec.limit.unit,
            "tuning_work": study.work,
            "total_work": study.total,
            "trials": len(states),
            **{state: states.count(state) for state in ("complete", "pruned", "fail")},
            "tuning_seeds": study.spec.tuning_seeds,
        }


def _at(values: tuple[float, ...], index: int) -> float:
    return values[index] if index < len(values) else math.nan


def _reported(study: Study, results: pd.DataFrame, label: str, objective: str) -> float:
    """The mean of an objective over the reporting cells of a configuration."""
    if results.empty:
        return math.nan
    own = problem(study)
    rows = results[(results["method"] == label) & (results["status"] == "ok")]
    rows = rows[rows["seed"] < TUNING_SEED]  # tables hold the trials as well, under the same label
    for column in ("task", "reward", "budget"):
        rows = rows[rows[column] == own[column]]
    if objective == "seconds":
        once = rows.drop_duplicates("cell")
        return float((once["seconds"] / once["n"]).mean())
    return float(rows[rows["metric"] == objective]["value"].mean())


def importance_table(studies: Sequence[Study]) -> pd.DataFrame:
    """fANOVA shares of every parameter for every objective (Hutter et al. 2014)."""
    columns = [*("task", "reward", "budget", "method", "study"), "objective", "parameter", "share"]
    rows = [row for study in studies for row in _importance_rows(study)]
    return pd.DataFrame(rows, columns=columns)


def _importance_rows(study: Study) -> Iterator[dict[str, Any]]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    told = [t for t in study.told() if t.state == "complete"]
    if len(told) < FEWEST:
        return
    rebuilt = rebuild(study.planner.space, told, study.directions)
    for index, name in enumerate(study.spec.objectives):
        if len({trial.values[index] for trial in told}) < 2:
            continue  # nothing varies, so nothing can be shared out
        shares: dict[str, float] = {}
        # Forests in which no tree splits leave fANOVA without any variance.
        with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
            warnings.simplefilter("ignore")
            shares = get_param_importances(
                rebuilt,
                evaluator=FanovaImportanceEvaluator(n_trees=64, max_depth=64, seed=0),
                target=lambda trial, i=index: trial.values[i],
            )
        for parameter, share in shares.items():
            if math.isfinite(share):
                row = {"objective": name, "parameter": parameter, "share": float(share)}
                yield {**problem(study), **row}


def export_sqlite(folder: Path, studies: Sequence[Study]) -> Path:
    """The studies as an Optuna database, for `optuna-dashboard sqlite:///...`; made anew."""
    target, partial = folder / SQLITE, folder / f"{SQLITE}.partial"
    partial.unlink(missing_ok=True)
    for study in studies:
        told = [t for t in study.told() if t.state != "running"]
        storage = f"sqlite:///{partial.resolve()}"
        where = {"study_name": study.id, "storage": storage}
        made = rebuild(study.planner.space, told, study.directions, **where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metric names are called experimental
            made.set_metric_names(list(study.spec.objectives))
        made._storage.remove_session()
    return partial.replace(target)
