"""Two runs side by side: the same methods on the same problems, before and after."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pandas as pd

from reports.data.entries import summarise
from reports.data.run import RunTables, load_run, weights_of
from reports.data.statistics import Difference, MeanInterval, difference, holm
from reports.data.summary import Entry, Summary

Key = tuple[str, str, float, str, str]


def compare_runs(run_a: Path, run_b: Path) -> pd.DataFrame:
    """One row per task, reward, strength, method, budget and metric that either run has.

    difference is b - a, over the cells that both have; adjusted is its p value adjusted over the
    whole table (Holm); same_cells says whether both runs hold the very same cells; verdict is one
    of `VERDICTS`.
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


VERDICTS = {
    "identical": "every cell has the same value, to the last digit",
    "within interval": "the 95 % interval of the difference holds 0",
    "different": "the 95 % interval of the difference leaves 0 out",
    "without interval": "not the same, and no interval says whether that is much",
    "no value": "neither run has a value",
    "in one run only": "the other run has no value",
}
"""What two runs say of a metric of a row."""


def verdict(a: MeanInterval, b: MeanInterval) -> str:
    """Of one metric of one row."""
    if not a.known and not b.known:
        return "no value"
    if not (a.known and b.known):
        return "in one run only"
    if _by_cell(a) == _by_cell(b):
        return "identical"
    gap = difference(b, a, as_drawn=True)
    if not math.isfinite(gap.half):
        return "without interval"
    return "within interval" if abs(gap.mean) <= gap.half else "different"


def _by_cell(found: MeanInterval) -> dict[tuple[str, int, int], float]:
    return {(row.condition, row.seed, row.fit): row.value for row in found.rows}


def counted(table: pd.DataFrame) -> str:
    """'115 of 115 identical', or how many are what."""
    if table.empty:
        return "neither run has a result"
    measured = table[(table["verdict"] != "no value") & (table["metric"] != "")]
    counts = {v: int((measured["verdict"] == v).sum()) for v in VERDICTS}
    rest = [f"{count} {v}" for v, count in counts.items() if count and v != "identical"]
    start = f"{counts['identical']} of {len(measured)} metrics of rows identical"
    return "; ".join([start, *([", ".join(rest)] if rest else [])])


def provenance(run_a: Path, run_b: Path) -> list[tuple[str, str, str]]:
    """What differs in how two runs were made: the term, and what each of them has."""
    found = [_made(load_run(run)) for run in (run_a, run_b)]
    return [(term, a, b) for (term, a), (_, b) in zip(*found, strict=True) if a != b]


def _made(run: RunTables) -> list[tuple[str, str]]:
    """Versions, machine, suite, and versions of what was measured."""

    def named(column: str) -> str:
        return ", ".join(sorted({str(v) for v in run.cells[column] if str(v) not in ("", "nan")}))

    rows = run.metrics.drop_duplicates(["metric", "version"])
    versions = sorted(f"{m}@{v}" for m, v in zip(rows["metric"], rows["version"], strict=True))
    columns = {"tiltbench": "version", "torch": "torch", "python": "python"}
    columns |= {name: name for name in ("commit", "device", "processor", "threads")}
    return [
        *((term, named(column)) for term, column in columns.items()),
        ("cells", str(len(run.cells))),
        ("suite", hashlib.sha256(run.suite_text.encode()).hexdigest()[:12]),
        ("metrics", ", ".join(versions)),
        ("weights", ", ".join(f"{k}@{v[:12]}" for k, v in sorted(weights_of(run).items()))),
    ]


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
        "verdict": verdict(a, b),
        "note_a": a.note,
        "note_b": b.note,
    }
