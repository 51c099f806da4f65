"""Studies as a database of Optuna, for its dashboard."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from sweeps.proposals import optuna_study
from sweeps.study import Study

SQLITE = "optuna.sqlite3"


def export_sqlite(folder: Path, studies: Sequence[Study]) -> Path:
    """The studies as an Optuna database, for `optuna-dashboard sqlite:///...`; made anew."""
    target, partial = folder / SQLITE, folder / f"{SQLITE}.partial"
    partial.unlink(missing_ok=True)
    for study in studies:
        told = [t for t in study.told() if t.state != "running"]
        storage = f"sqlite:///{partial.resolve()}"
        where = {"study_name": study.id, "storage": storage}
        made = optuna_study(study.planner.space, told, study.directions, **where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metric names are called experimental
            made.set_metric_names(list(study.spec.objectives))
        made._storage.remove_session()
    return partial.replace(target)
