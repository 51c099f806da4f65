"""The tables of a sweep: a row per trial, and a row per method with default against tuned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bench.core.cells import Planned, canonical
from sweeps.spec import SECONDS, TUNING_SEED
from sweeps.study import Study
from sweeps.trials import Trial


def comparison(study: Study) -> dict[str, str]:
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
            **comparison(study),
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
            "leader": study.closed and any(trial is leader for leader in study.selection.leaders),
            "selected": trial is best,
            "cells": canonical(sorted({row.id for row in ended_rows(study, trial)})),
        }


def ended_rows(study: Study, trial: Trial) -> list[Planned]:
    """The rows of a trial that have ended, re-scoring included."""
    rounds = range(study.spec.tuning_seeds)
    extra = [i for t, i in study.selection.finals if t is trial] if study.closed else []
    rows = [r for i in [*rounds, *extra] if trial.row for r in study.planner.round(trial.row, i)]
    return [row for row in rows if study.ends.of_row(row) is not None]


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
    tuned, untuned = study.selection.score(best), study.selection.score(default)
    for index, name in enumerate(study.spec.objectives):
        reported = _reported(study, results, best.label, name)
        yield {
            **comparison(study),
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
    own = comparison(study)
    rows = results[(results["method"] == label) & (results["status"] == "ok")]
    rows = rows[rows["seed"] < TUNING_SEED]  # tables hold the trials as well, under the same label
    for column in ("task", "reward", "budget"):
        rows = rows[rows[column] == own[column]]
    if objective == SECONDS:
        once = rows.drop_duplicates("cell")
        return float((once["seconds"] / once["n"]).mean())
    return float(rows[rows["metric"] == objective]["value"].mean())
