"""Tuning: what a sweep tried, what it cost, and what it gained on seeds that it had not seen."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from reports.data.summary import slug
from reports.data.trials import Sweeps
from reports.figures import sweep as figures
from reports.figures.palette import MethodLook
from reports.figures.palette import looks as choose_looks
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow, number, text
from reports.text.labels import ARROWS, listed
from reports.text.numbers import DASH, percent, short

PROBLEM = ["task", "reward", "budget"]
LEAST_EVEN = 0.05


Colours = Mapping[str, str]
"""The colour that a method declares, by name."""


def sections(sweeps: Sweeps | None, colours: Colours) -> list[dict[str, Any]]:
    """Figures and tables, one entry per task, reward and budget."""
    if sweeps is None or sweeps.trials.empty:
        return []
    groups = sweeps.trials.groupby(PROBLEM, sort=False)
    return [_section(sweeps, key, trials, colours) for key, trials in groups]


def _looks(labels: Iterable[str], colours: Colours) -> dict[str, MethodLook]:
    return choose_looks({label: colours.get(label.partition(":")[0], "") for label in labels})


def _section(sweeps: Sweeps, key: Any, trials: pd.DataFrame, colours: Colours) -> dict[str, Any]:
    task, reward, budget = key
    title = f"{task} · {reward} at {budget}"
    looks, name = _looks(trials["method"].unique(), colours), slug(title)
    tuning, importance = _of(sweeps.tuning, key), _of(sweeps.importance, key)
    objectives = [str(o) for o in json.loads(trials["directions"].iloc[0])]
    return {
        "title": title,
        "slug": name,
        "table": _grid(tuning, looks) if len(tuning) else None,
        "history": Markup(figures.history(trials, looks, f"history-{name}")),
        "importance": Markup(figures.importance(importance, looks, f"importance-{name}")),
        "pareto": Markup(figures.pareto(trials, looks, f"pareto-{name}")),
        "parallel": [
            (method, Markup(figures.parallel(own, f"parallel-{name}-{index}")))
            for index, (method, own) in enumerate(trials.groupby("method", sort=False))
        ],
        "objectives": objectives,
        "notes": list(_notes(trials, tuning)),
    }


def tables(sweeps: Sweeps, colours: Colours) -> Iterator[tuple[str, TableGrid]]:
    """Default against tuned alone: title and table per task, reward and budget."""
    for key, tuning in sweeps.tuning.groupby(PROBLEM, sort=False):
        task, reward, budget = key
        looks = _looks(tuning["method"].unique(), colours)
        yield f"{task} · {reward} at {budget}", _grid(tuning, looks)


def _of(table: pd.DataFrame, key: Any) -> pd.DataFrame:
    if table.empty:
        return table
    same = (table[column] == value for column, value in zip(PROBLEM, key, strict=True))
    chosen = pd.Series(True, index=table.index)
    for mask in same:
        chosen &= mask
    return table[chosen]


TUNING_COLUMNS = [
    Column("method", numeric=False),
    Column("objective", numeric=False),
    Column("default", tip="on reporting seeds"),
    Column("tuned", tip="on reporting seeds"),
    Column("better by", tip="tuned against default, on reporting seeds"),
    Column("tuning score", tip="of the tuned configuration, on tuning seeds"),
    Column("optimism", tip="tuning score minus reporting score"),
    Column("trials"),
    Column("tuning work"),
    Column("tuned parameters", numeric=False),
]


def _grid(tuning: pd.DataFrame, looks: dict[str, MethodLook]) -> TableGrid:
    lines = [_line(row, looks) for row in tuning.to_dict("records")]
    return TableGrid(TUNING_COLUMNS, [RowGroup("", lines)])


def _line(row: dict[Any, Any], looks: dict[str, MethodLook]) -> TableRow:
    def value(column: str) -> TableCell:
        found = row[column]
        known = found is not None and math.isfinite(found)
        return number(short(found) if known else DASH, found if known else math.nan)

    params = ", ".join(f"{k}={_shown(v)}" for k, v in json.loads(row["params"]).items())
    arrow = ARROWS["higher" if row["direction"] == "maximize" else "lower"]
    gain = _gain(row)
    return TableRow(
        [
            text(row["method"], code=True, colour=looks[row["method"]].colour),
            text(f"{row['objective']} {arrow}"),
            value("default_score"),
            value("tuned_score"),
            number(percent(gain), gain),
            value("tuned_tuning_score"),
            value("optimism"),
            number(str(row["trials"]), row["trials"]),
            number(short(row["tuning_work"]), row["tuning_work"], minor=row["unit"]),
            text(params or "the default", code=bool(params)),
        ]
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _gain(row: dict[Any, Any]) -> float:
    """Relative improvement over the default; negative if tuning made it worse."""
    default, tuned = row["default_score"], row["tuned_score"]
    if default is None or tuned is None or not default:
        return math.nan
    change = (tuned - default) / abs(default)
    return float(change if row["direction"] == "maximize" else 0.0 - change)


ENOUGH = 30
"""Trials below which the share of a parameter is a guess: a forest is fitted to as many points."""


def _few_trials(trials: pd.DataFrame) -> Iterator[str]:
    """What so few trials cannot say of parameters, and that they were drawn at random."""
    counts = trials[trials["state"] == "complete"].groupby("method", sort=False).size()
    few = {str(method): int(count) for method, count in counts.items() if count < ENOUGH}
    if few:
        told = listed([f"{count} of `{method}`" for method, count in few.items()])
        yield (
            f"Shares of parameters rest on {told} trials: below {ENOUGH} they are guesses. A model-"
            f"based sampler draws its first {STARTUP} trials at random, unless `startup` says less."
        )


STARTUP = 10
"""Of `tpe` and `gp` by default (sweeps/samplers.py; a test holds the two together)."""


def _notes(trials: pd.DataFrame, tuning: pd.DataFrame) -> Iterator[str]:
    """What a reader should know before trusting the table."""
    for method, own in trials.groupby("method", sort=False):
        counts = own["state"].value_counts()
        lost = [f"{counts[s]} {s}" for s in ("pruned", "fail", "running") if s in counts]
        if lost:
            yield f"`{method}`: of {len(own)} trials, {', '.join(lost)}."
    yield from _few_trials(trials)
    if len(tuning):
        work = tuning.drop_duplicates("method")["tuning_work"]
        spread = 1 - work.min() / work.max()
        if spread > LEAST_EVEN:
            yield f"Tuning work differs by {percent(spread)} between methods."
        worse = [row["method"] for row in tuning.to_dict("records") if _gain(row) < 0]
        for method in dict.fromkeys(worse):
            yield f"`{method}`: the tuned configuration is worse than the default on fresh seeds."
