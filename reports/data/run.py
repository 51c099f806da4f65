"""Reading a run folder.

Columns that an older or unfinished run lacks are filled with what "unknown" means for them, so
that everything downstream sees one schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load

from bench.record import columns, layout
from bench.record.files import RunFiles
from bench.record.index import Index
from bench.record.seals import Damage
from bench.record.suite_file import read_suite
from reports.data.trials import table_of, tuning_cells


@dataclass(frozen=True)
class RunTables:
    """What is stored of a run; tables are complete in columns, whatever is missing on disk."""

    path: Path
    suite_text: str
    cells: pd.DataFrame
    metrics: pd.DataFrame
    samples: pd.DataFrame
    colours: Mapping[str, str]
    """Of every method that declares one, by name; with those that only tuning saw."""

    @cached_property
    def suite(self) -> dict[str, Any]:
        """The resolved suite, or {} where there is none, or none that can be read."""
        try:
            return read_suite(self.suite_text) if self.suite_text else {}
        except ValueError:
            self.index.damaged.append(Damage(layout.SUITE, "is no suite"))
            return {}

    @property
    def name(self) -> str:
        """The suite's name, or the folder's."""
        return str(self.suite.get("name") or self.path.resolve().name)

    @cached_property
    def index(self) -> Index:
        """What is stored beside the tables."""
        return Index(RunFiles(str(self.path.parent), self.path.name))

    @property
    def damaged(self) -> list[Damage]:
        """Files that were asked for and are not what was written; the page does without them."""
        return self.index.damaged


def load_run(path: Path) -> RunTables:
    """The run in a folder, without the cells of tuning; tables that do not exist yet are empty."""
    suite = path / layout.SUITE
    tuning = tuning_cells(path)

    def table(name: str) -> pd.DataFrame:
        frame = table_of(path, name)
        return frame[~frame["cell"].isin(tuning)] if tuning and "cell" in frame else frame

    return RunTables(
        path,
        suite.read_text(encoding="utf-8", errors="replace") if suite.exists() else "",
        tidy_cells(table("cells")),
        tidy_metrics(table("metrics")),
        _complete(table("samples"), columns.SAMPLES),
        _colours(table_of(path, "cells")),
    )


def _colours(cells: pd.DataFrame) -> dict[str, str]:
    known = {name: columns.CELLS[name] for name in ("method_name", "method_colour")}
    found = _complete(cells, known)
    declared = found[found["method_colour"] != ""].drop_duplicates("method_name")
    return dict(zip(declared["method_name"], declared["method_colour"], strict=True))


def tidy_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with every column; a missing method name is the label's."""
    full = _complete(cells, columns.CELLS)
    names = full["method"].str.partition(":")[0] if len(full) else full["method"]
    full["method_name"] = full["method_name"].where(full["method_name"] != "", names)
    return full.astype({"seed": int, "n": int, "attempt": int})


def conditions_of(cells: pd.DataFrame) -> list[list[str]]:
    """The conditions of every cell: its one, or the many that it holds."""
    many = cells["conditions"] if "conditions" in cells else ["[]"] * len(cells)
    pairs = zip(cells["condition"], many, strict=True)
    return [json.loads(own) or [str(one)] for one, own in pairs]


def tidy_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics with every column, one row per cell, metric and condition: the newest version."""
    full = _complete(metrics, columns.METRICS)
    return full.drop_duplicates(["cell", "metric", "condition"], keep="last")


def weights_of(run: RunTables) -> dict[str, str]:
    """By name the checksums that the cells of a run are identified by; one cell per problem.

    {} for a run whose cells are not on this machine.
    """
    found: dict[str, str] = {}
    for cell in run.cells.drop_duplicates(["task", "reward"])["cell"]:
        path = run.path / layout.cell_file(cell)
        try:
            known = json.loads(path.read_text(encoding="utf-8"))["weights"]
            found |= {str(name): str(sha) for name, sha in known.items()}
        except OSError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            run.index.damaged.append(Damage(layout.cell_file(cell), f"cannot be read ({error})"))
    return found


def stored_arrays(run: RunTables, cell: str, attempt: int) -> dict[str, np.ndarray]:
    """The stored samples of `attempt` of a cell, or else of its last one; {} if there are none."""
    last = run.index.last(cell)
    number = attempt or (0 if last is None else last.number)
    return run.index.read_beside(cell, number, layout.SAMPLES, load) or {}


def stored_curve(run: RunTables, cell: str) -> pd.DataFrame:
    """What the last attempt of a cell logged by step; empty if there is nothing."""
    last = run.index.last(cell)
    number = 0 if last is None else last.number
    found = run.index.curve(cell, number)
    return pd.DataFrame() if found is None else found


def _complete(frame: pd.DataFrame, known: Mapping[str, columns.Unknown]) -> pd.DataFrame:
    filled = {name: _column(frame, name, default) for name, default in known.items()}
    return pd.DataFrame(filled, index=frame.index).reset_index(drop=True)


def _column(frame: pd.DataFrame, name: str, default: columns.Unknown) -> pd.Series[Any]:
    kind = object if isinstance(default, str) else type(default)
    if name not in frame:
        return pd.Series([default] * len(frame), index=frame.index, dtype=kind)
    column = frame[name].astype(object)
    return column.where(column.notna(), default).astype(str if kind is object else kind)
