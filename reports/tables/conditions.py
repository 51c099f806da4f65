"""Heat maps by condition: every cell says its value, and its shade how good that is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reports.data.conditions import DIVIDING, PARTS, ConditionMap
from reports.data.statistics import MeanInterval
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.tables.headline import method_cell
from reports.text.numbers import decimals, fixed

SHADES = 8
"""Of the scale, beside none."""
OUTER = (5, 95)
"""Percentiles at which the scale ends, so that one odd value does not take all of it."""
LETTERS = 48
"""Of a condition in a heading; the whole is its tip, and in `conditions.csv` of an export."""

IN_PARTS = "all conditions, from the hardest to the easiest"
BY_NAME = "conditions on which the methods are furthest apart"


def condition_grid(found: ConditionMap, looks: MethodLooks) -> TableGrid:
    """A row per method; the last column is the mean that tables elsewhere have."""
    shown = found.columns()
    estimates = [entry.estimate(found.metric) for entry in found.entries]
    rows = range(len(found.entries))
    values = np.array([[found.mean(k, places) for _, places in shown] for k in rows])
    places = decimals([MeanInterval(v) for v in values.ravel().tolist()])
    lines = [
        TableRow([
            method_cell(found.entries[k], looks),
            *(_shaded(v, places, s) for v, s in zip(values[k], shade, strict=True)),
            grid.estimate_cell(estimates[k], decimals(estimates)),
        ])
        for k, shade in enumerate(shades(values, found.direction))
    ]  # fmt: skip
    columns = [_column(found, title, which) for title, which in shown]
    mean = Column("mean", f"{found.metric} over all {len(found.conditions)} conditions")
    head = Column("method", numeric=False)
    return TableGrid([head, *columns, mean], [RowGroup("", lines)], _notes(found))


def _shaded(value: float, places: int, shade: int) -> TableCell:
    return grid.number(fixed(value, places), value, shade=shade)


def shades(values: NDArray[np.float64], direction: str) -> NDArray[np.int_]:
    """0 to `SHADES` within the outer percentiles of all known values, `SHADES` the best."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(values.shape, int)
    low, high = np.percentile(known, OUTER)
    share = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    share = 1 - share if direction == "lower" else share
    inside = np.clip(np.nan_to_num(share, nan=0.0), 0, 1)
    found: NDArray[np.int_] = np.rint(SHADES * inside).astype(int)
    return found


def _column(found: ConditionMap, title: str, places: list[int]) -> Column:
    """Of one condition by its name, or of a part by its place and size."""
    better = found.direction if found.direction in ("higher", "lower") else ""
    if title:
        told = f"mean over {len(places)} conditions"
        return Column(title, told, IN_PARTS, minor=f"n = {len(places)}", better=better)
    name = found.conditions[places[0]] or "none"
    short = name if len(name) <= LETTERS else f"{name[:LETTERS]}…"
    return Column(short, name, BY_NAME if found.many else "", better=better)


def _notes(found: ConditionMap) -> list[str]:
    gaps = bool(np.isnan(found.values).any())
    best = {"higher": "highest", "lower": "lowest"}.get(found.direction)
    return grid.unique([
        f"shade: the darker, the {'better' if best else 'higher'}, over this table, from the "
        f"{OUTER[0]}th to the {OUTER[1]}th percentile; a value is the mean over seeds and fits",
        f"{len(found.conditions)} conditions are put together in {PARTS} parts by their mean over "
        f"all methods, and the {DIVIDING} with the largest gap between two methods are shown by "
        "name; the largest of many gaps are partly luck. `bench report RUN --export DIR` writes "
        "every condition to conditions.csv" if found.many else "",
        "–: a condition without a result, or a part that has one" if gaps else "",
    ])  # fmt: skip
