"""Reading a run folder.

Columns that an older or unfinished run lacks are filled with what "unknown" means for them, so
that everything downstream sees one schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import load_file

from bench.core.units import KINDS, ROLES
from reports.data.trials import tuning_cells

WORK = tuple(f"{role}_{kind}" for role, kind in product(ROLES, KINDS))

_NAN = float("nan")

CELL_COLUMNS: dict[str, str | float | bool] = {
    "cell": "",
    "task": "",
    "reward": "",
    "strength": 1.0,
    "condition": "",
    "method": "",
    "method_name": "",
    "method_summary": "",
    "method_standing": "method",
    "method_tag": "",
    "method_caveat": "",
    "method_push": "guidance",
    "method_best_of": "",
    "method_colour": "",
    "task_summary": "",
    "params": "{}",
    "matched": "{}",
    "budget": "",
    "budget_unit": "",
    "budget_amount": _NAN,
    "seed": 0.0,
    "n": 0.0,
    "status": "pending",
    "reason": "",
    "utilisation": _NAN,
    "underused": False,
    "paper_nfe": _NAN,
    "model_nfe": _NAN,
    "predicted_paper_nfe": _NAN,
    "expected": _NAN,
    "drift": _NAN,
    "seconds": _NAN,
    "cell_seconds": _NAN,
    "peak_bytes": _NAN,
    "flops": _NAN,
    "fit_paper_nfe": 0.0,
    "map_paper_nfe": 0.0,
    "device": "",
    "threads": _NAN,
    "version": "",
    "torch": "",
    "info": "{}",
    "attempt": 0.0,
    "finished": "",
    **{f"{kind}_{work}": 0.0 for kind in ("sample", "fit") for work in WORK},
}

METRIC_COLUMNS: dict[str, str | float | bool] = {
    "cell": "",
    "metric": "",
    "version": "",
    "implementation": "",
    "direction": "none",
    "summary": "",
    "rank": 1000.0,
    "measures": "",
    "floor": False,
    "value": _NAN,
    "standard_error": _NAN,
    "n": 0.0,
    "note": "",
}

SAMPLE_COLUMNS: dict[str, str | float | bool] = {
    "cell": "",
    "condition": "",
    "index": 0.0,
    "reward": _NAN,
    "judge": _NAN,
}


@dataclass(frozen=True)
class Run:
    """What is stored of a run; tables are complete in columns, whatever is missing on disk."""

    path: Path
    suite_text: str
    cells: pd.DataFrame
    metrics: pd.DataFrame
    samples: pd.DataFrame
    colours: Mapping[str, str] = field(default_factory=dict)
    """Of every method that declares one, by name; with those that only tuning saw."""

    @property
    def suite(self) -> dict[str, Any]:
        """The resolved suite, or {} where there is none."""
        parsed = yaml.safe_load(self.suite_text or "{}")
        return parsed if isinstance(parsed, dict) else {}

    @property
    def name(self) -> str:
        """The suite's name, or the folder's."""
        return str(self.suite.get("name") or self.path.resolve().name)


def load(path: Path) -> Run:
    """The run in a folder, without the cells of tuning; tables that do not exist yet are empty."""
    suite = path / "suite.yaml"
    tuning = tuning_cells(path)

    def table(name: str) -> pd.DataFrame:
        frame = _table(path / f"{name}.parquet")
        return frame[~frame["cell"].isin(tuning)] if tuning and "cell" in frame else frame

    return Run(
        path,
        suite.read_text(encoding="utf-8") if suite.exists() else "",
        tidy_cells(table("cells")),
        tidy_metrics(table("metrics")),
        _complete(table("samples"), SAMPLE_COLUMNS),
        _colours(tidy_cells(_table(path / "cells.parquet"))),
    )


def _colours(cells: pd.DataFrame) -> dict[str, str]:
    declared = cells[cells["method_colour"] != ""].drop_duplicates("method_name")
    return dict(zip(declared["method_name"], declared["method_colour"], strict=True))


def tidy_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with every column; a missing method name is the label's."""
    full = _complete(cells, CELL_COLUMNS)
    names = full["method"].str.partition(":")[0] if len(full) else full["method"]
    full["method_name"] = full["method_name"].where(full["method_name"] != "", names)
    return full.astype({"seed": int, "n": int, "attempt": int})


def tidy_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics with every column, one row per cell and metric: the newest version."""
    full = _complete(metrics, METRIC_COLUMNS)
    return full.drop_duplicates(["cell", "metric"], keep="last")


def arrays(run: Path, cell: str, attempt: int) -> dict[str, np.ndarray]:
    """The stored samples of a cell: those of `attempt`, else of the last attempt; {} if none."""
    folder = run / "cells" / cell / "attempts"
    wanted = folder / str(attempt) / "samples.safetensors"
    stored = sorted(folder.glob("*/samples.safetensors"), key=lambda p: (len(p.parent.name), p))
    found = wanted if wanted.exists() else next(reversed(stored), None)
    return dict(load_file(found)) if found else {}


def _table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.exists() else pd.DataFrame()


def _complete(frame: pd.DataFrame, columns: dict[str, str | float | bool]) -> pd.DataFrame:
    filled = {name: _column(frame, name, default) for name, default in columns.items()}
    return pd.DataFrame(filled, index=frame.index).reset_index(drop=True)


def _column(frame: pd.DataFrame, name: str, default: str | float | bool) -> pd.Series[Any]:
    kind = object if isinstance(default, str) else type(default)
    if name not in frame:
        return pd.Series([default] * len(frame), index=frame.index, dtype=kind)
    column = frame[name].astype(object)
    return column.where(column.notna(), default).astype(str if kind is object else kind)
