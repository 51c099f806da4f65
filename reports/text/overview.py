"""The account of a run: what was compared, what did not work, and how to do it again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain

import pandas as pd

from bench.core.units import UNITS
from bench.record.statuses import STATUSES
from reports.data.run import RunTables, conditions_of, weights_of
from reports.data.summary import Entry, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.compute import matched
from reports.tables.grid import Column, RowGroup, TableGrid, TableRow
from reports.text.labels import budget_label
from reports.text.numbers import DASH, seconds

Facts = list[tuple[str, str]]
"""Term and description."""


def statuses(run: RunTables) -> Facts:
    """How many cells ended how, in the order of the design: '90', 'ok'."""
    counts = Counter(run.cells["status"])
    known = [status for status in STATUSES if status in counts]
    rest = sorted(set(counts).difference(known))
    return [(str(counts[status]), status) for status in (*known, *rest)]


def finished(run: RunTables) -> str:
    """When the last cell finished; the report's date, so that it can be rebuilt byte by byte."""
    last = max(run.cells["finished"], default="")
    return last[:16].replace("T", " ") or "nothing has finished yet"


def compared_facts(run: RunTables, summary: Summary) -> Facts:
    """Tasks, rewards, budgets, seeds and sample sizes."""
    cells = run.cells
    tasks = _explained(dict(zip(cells["task"], cells["task_summary"], strict=True)))
    problems = [f"`{p.reward}` on `{p.task}`, strength {p.strength:g}" for p in summary.problems]
    units = _explained({unit: _counted(unit) for unit in cells["budget_unit"] if unit})
    budgets = dict.fromkeys(b or "none" for p in summary.problems for b in summary.budgets(p))
    facts = [
        ("tasks", "; ".join(tasks)),
        ("rewards", "; ".join(problems)),
        ("budgets", ", ".join(f"`{b}`" for b in budgets) + " per returned sample"),
        ("counted in", "; ".join(units)),
        ("conditions", ", ".join(grid.unique(chain(*conditions_of(cells))))),
        ("seeds", ", ".join(map(str, sorted(set(cells["seed"]))))),
        ("samples", "; ".join(_sizes(cells))),
    ]
    return [(term, text) for term, text in facts if text]


def methods_grid(summary: Summary, looks: MethodLooks) -> TableGrid:
    """Every method with its explanation, its parameters and what matching chose."""
    budgets = list(dict.fromkeys(e.budget for e in summary.entries))
    columns = [
        Column("method", numeric=False),
        Column("what it does", numeric=False),
        Column("parameters", numeric=False),
        *(Column(budget_label(b), over="matched to", numeric=False) for b in budgets),
    ]
    lines = [_method_line(summary, m, budgets, looks) for m in summary.colours]
    return TableGrid(columns, [RowGroup("", lines)])


def _method_line(summary: Summary, method: str, budgets: list[str], looks: MethodLooks) -> TableRow:
    own = [e for e in summary.entries if e.method == method]
    return TableRow(
        [
            grid.text(method, colour=looks[method].colour, code=True),
            grid.text(own[0].about.summary),
            grid.text(_params(own)),
            *(grid.text(_matched(e for e in own if e.budget == b)) for b in budgets),
        ]
    )


def _matched(entries: Iterable[Entry]) -> str:
    """What matching chose, which may differ from problem to problem."""
    found = grid.unique(matched(entry) for entry in entries)
    return " / ".join(text for text in found if text != DASH) or DASH


def _params(entries: list[Entry]) -> str:
    """Parameters that matching did not choose."""
    chosen = {key for e in entries for text in e.cells["matched"] for key in json.loads(text) or {}}
    params = {
        key: value
        for entry in entries
        for key, value in (json.loads(entry.cells["params"].iloc[0]) or {}).items()
        if key not in chosen
    }
    return ", ".join(f"{key}={value}" for key, value in params.items()) or DASH


def _sizes(cells: pd.DataFrame) -> list[str]:
    sizes = cells[cells["n"] > 0].groupby("task", sort=False)["n"].unique()
    texts = {task: ", ".join(f"{n:,}" for n in sorted(ns)) for task, ns in sizes.items()}
    return [f"{text} per cell on `{task}`" for task, text in texts.items()]


def _counted(unit: str) -> str:
    return UNITS[unit].summary if unit in UNITS else ""


def _explained(texts: Mapping[str, str]) -> list[str]:
    """Labels, each with its explanation if there is one."""
    return [f"`{label}`" + (f", {text}" if text else "") for label, text in texts.items()]


def unfinished_grid(run: RunTables, summary: Summary, looks: MethodLooks) -> TableGrid | None:
    """Every cell that did not end ok, with its reason; seeds of one kind share a row."""
    lines = [line for entry in summary.entries for line in _unfinished(entry, looks)]
    heads = ("status", "problem", "method", "budget", "seeds", "reason")
    columns = [Column(head, numeric=False) for head in heads]
    present = grid.unique(run.cells["status"])
    notes = [f"{s}: {STATUSES[s]}" for s in present if s in STATUSES and s != "ok"]
    return TableGrid(columns, [RowGroup("", lines)], notes) if lines else None


def _unfinished(entry: Entry, looks: MethodLooks) -> list[TableRow]:
    if len(entry.done) == len(entry.cells):
        return []
    rest = entry.cells[entry.cells["status"] != "ok"]
    return [
        TableRow(
            [
                grid.text(str(status), warn=status not in ("pending", "skipped")),
                grid.text(entry.problem.title),
                grid.text(entry.method, colour=looks[entry.method].colour, code=True),
                grid.text(entry.budget or DASH),
                grid.text(", ".join(map(str, sorted(set(cells["seed"]))))),
                grid.text(str(reason) or STATUSES.get(str(status), ""), tip=_where(cells)),
            ]
        )
        for (status, reason), cells in rest.groupby(["status", "reason"])
    ]


def _where(cells: pd.DataFrame) -> str:
    """Folders with the logs."""
    tried = cells[cells["attempt"] > 0]
    ran = [f"cells/{c}/attempts/{a}" for c, a in zip(tried["cell"], tried["attempt"], strict=True)]
    return ", ".join(ran) or "cell " + ", ".join(cells["cell"])


def _computing(cells: pd.DataFrame) -> str:
    """Of all cells together, with loading and evaluation, and of fits where there are any."""
    fits = cells.drop_duplicates("fit")["fit_seconds_total"]
    total, fitted = float(cells["cell_seconds"].sum()), float(fits.sum())
    told = f"{seconds(total)} in all cells, with loading and evaluation" if total > 0 else ""
    return told + (f"; {seconds(fitted)} in fits" if told and fitted > 0 else "")


def _weights(run: RunTables) -> Facts:
    """The networks behind the cells, by the SHA-256 of their files, or of what decides them."""
    told = [f"`{name}` {sha[:SHOWN]}" for name, sha in sorted(weights_of(run).items())]
    return [("weights (SHA-256)", ", ".join(told))]


SHOWN = 16
"""Characters of a checksum; `cell.json` of every cell has all of it."""


def reproduction(run: RunTables) -> Facts:
    """Versions and machine."""
    cells = run.cells
    threads = sorted({int(t) for t in cells["threads"] if math.isfinite(t)})
    facts = [
        ("tiltbench", ", ".join(grid.unique(cells["version"]))),
        ("torch", ", ".join(grid.unique(cells["torch"]))),
        ("python", ", ".join(grid.unique(cells["python"]))),
        ("device", ", ".join(grid.unique(cells["device"]))),
        ("processor", ", ".join(grid.unique(cells["processor"]))),
        ("commit", ", ".join(grid.unique(cells["commit"]))),
        ("threads per cell", ", ".join(map(str, threads))),
        ("cells", str(len(cells))),
        ("computing", _computing(cells)),
        *_weights(run),
    ]
    return [(term, text) for term, text in facts if text]
