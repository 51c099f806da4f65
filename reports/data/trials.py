"""Reading the tables of a sweep from a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.record.files import RunFiles
from bench.record.projections import read_table


@dataclass(frozen=True)
class Sweeps:
    """The sweep tables of a run folder."""

    trials: pd.DataFrame
    tuning: pd.DataFrame
    importance: pd.DataFrame


def load_sweeps(folder: Path) -> Sweeps | None:
    """The tables, or None where nothing was tuned."""
    trials = table_of(folder, "trials")
    if not len(trials.columns):
        return None
    return Sweeps(trials, table_of(folder, "tuning"), table_of(folder, "importance"))


def table_of(folder: Path, name: str) -> pd.DataFrame:
    """A table of the run in a folder, empty where there is none; UserError for a damaged one."""
    try:
        return read_table(RunFiles(str(folder.parent), folder.name), name)
    except FileNotFoundError:
        return pd.DataFrame()


def tuning_cells(folder: Path) -> set[str]:
    """Ids of the cells of trials: they are not part of any comparison."""
    found = load_sweeps(folder)
    if found is None:
        return set()
    return {cell for cells in found.trials["cells"] for cell in json.loads(cells)}
