"""Reading the tables of a sweep from a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.record.projections import read_table


@dataclass(frozen=True)
class Sweeps:
    """The sweep tables of a run folder."""

    trials: pd.DataFrame
    tuning: pd.DataFrame
    importance: pd.DataFrame


def load_sweeps(folder: Path) -> Sweeps | None:
    """The tables, or None where nothing was tuned."""
    if not (folder / "trials.parquet").exists():
        return None
    return Sweeps(*(_table(folder / f"{n}.parquet") for n in ("trials", "tuning", "importance")))


def _table(path: Path) -> pd.DataFrame:
    return read_table(path) if path.exists() else pd.DataFrame()


def tuning_cells(folder: Path) -> set[str]:
    """Ids of the cells of trials: they are not part of any comparison."""
    found = load_sweeps(folder)
    if found is None:
        return set()
    return {cell for cells in found.trials["cells"] for cell in json.loads(cells)}
