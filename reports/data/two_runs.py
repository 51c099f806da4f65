"""Two runs side by side: the same methods on the same problems, before and after."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from reports.data.run import load_run
from reports.data.statistics import Difference, MeanInterval, difference, holm
from reports.data.summary import Entry, Summary, summarise

Key = tuple[str, str, float, str, str]


def compare_runs(run_a: Path, run_b: Path) -> pd.DataFrame:
    """One row per task, reward, strength, method, budget and metric that either run has.

    difference is b - a, over the cells that both have; adjusted is its p value adjusted over the
    whole table (Holm); same_cells says whether both runs hold the very same cells.
    """
    a, b = (summarise(r.cells, r.metrics) for r in map(load_run, (run_a, run_b)))
    entries_a, entries_b = _by_key(a), _by_key(b)
    rows = [
        row
        for key in dict.fromkeys([*entries_a, *entries_b])
        for row in _rows(key, entries_a.get(key), entries_b.get(key))
    ]
    table = pd.DataFrame(rows)
    if len(table):
        table["adjusted"] = holm(list(table["p"]))
    return table


def _by_key(summary: Summary) -> dict[Key, Entry]:
    return {
        (e.problem.task, e.problem.reward, e.problem.strength, e.method, e.budget): e
        for e in summary.entries
    }


def _rows(key: Key, a: Entry | None, b: Entry | None) -> list[dict[str, Any]]:
    names = ("task", "reward", "strength", "method", "budget")
    metrics = dict.fromkeys(m for e in (a, b) if e for m in e.estimates) or {"": None}
    same = a is not None and b is not None and set(a.cells["cell"]) == set(b.cells["cell"])
    states = {"status_a": _status(a), "status_b": _status(b), "same_cells": same}
    base = dict(zip(names, key, strict=True))
    return [base | {"metric": m} | _values(_get(a, m), _get(b, m)) | states for m in metrics]


def _status(entry: Entry | None) -> str:
    return entry.status if entry else "absent"


def _get(entry: Entry | None, metric: str) -> MeanInterval:
    return entry.estimate(metric) if entry else MeanInterval(math.nan, note="not in this run")


def _values(a: MeanInterval, b: MeanInterval) -> dict[str, Any]:
    gap = (
        difference(b, a)
        if a.known and b.known
        else Difference(math.nan, math.nan, math.nan, 0, "none")
    )
    return {
        "mean_a": a.mean,
        "half_a": a.half,
        "mean_b": b.mean,
        "half_b": b.half,
        "difference": gap.mean,
        "difference_half": gap.half,
        "p": gap.p,
        "pairs": gap.pairs,
        "note_a": a.note,
        "note_b": b.note,
    }
