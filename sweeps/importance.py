"""How much each parameter of a method decides each objective."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from sweeps.proposals import optuna_study
from sweeps.study import Study
from sweeps.tables import comparison

FEWEST = 4
"""Complete trials below which no importance is given."""


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
    rebuilt = optuna_study(study.planner.space, told, study.directions)
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
                yield {**comparison(study), **row}
