"""Curves: a metric against measured compute, one panel per problem."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.core.units import DEFAULT, UNITS
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.end_labels import End, high_enough, name_ends
from reports.figures.palette import MethodLook, MethodLooks
from reports.figures.svg import panels, styled, to_svg
from reports.text.labels import ARROWS
from reports.text.numbers import short

PickMetric = Callable[[ProblemKey], str | None]
"""Which metric a problem's panel shows; None for no panel."""


def against_compute(summary: Summary, looks: MethodLooks, name: str, pick: PickMetric) -> str:
    """One panel per problem: the picked metric against compute, with intervals; "" without any."""
    figure = compute_figure(summary, looks, pick)
    if figure is None:
        return ""
    chosen = filter(None, map(pick, summary.problems))
    what = " and ".join(dict.fromkeys(chosen))
    return to_svg(
        figure, name, f"{what} against measured compute; the values are in the headline tables"
    )


def compute_figure(summary: Summary, looks: MethodLooks, pick: PickMetric) -> Figure | None:
    """The same as a figure of matplotlib."""
    chosen = [(p, metric) for p in summary.problems if (metric := pick(p))]
    if not chosen:
        return None
    with styled():
        most = max(len({e.method for e in summary.of(problem)}) for problem, _ in chosen)
        columns = min(len(chosen), 2)
        figure, axes = panels(len(chosen), columns, 5.7, high_enough(3.5, most))
        for axis, (problem, metric) in zip(axes, chosen, strict=True):
            _panel(axis, summary, problem, metric, looks)
        rows = math.ceil(len(chosen) / columns)
        edges = {"top": 1 - 0.1 / rows, "bottom": 0.14 / rows}
        edges |= {"left": 0.09 / columns, "right": 1 - 0.37 / columns}
        figure.subplots_adjust(wspace=0.72, hspace=0.38, **edges)
        return figure


def unit_of(entries: list[Entry]) -> str:
    """The unit of most budgets."""
    units = [str(e.cells["budget_unit"].iloc[0]) for e in entries]
    known = [u for u in units if u in UNITS]
    return max(known, key=known.count, default=DEFAULT)


def _panel(
    axis: Axes, summary: Summary, problem: ProblemKey, metric: str, looks: MethodLooks
) -> None:
    unit = unit_of(summary.of(problem))
    entries = [e for e in summary.of(problem) if e.estimate(metric).known and e.cost(unit) > 0]
    drawn = [e for e in entries if not e.is_floor]
    _compute_axis(axis, drawn, unit)
    arrow = ARROWS.get(summary.info[metric].direction, "")
    axis.set(title=problem.title, ylabel=f"{metric} {arrow}".strip())
    exact = [e for e in entries if e.is_floor]
    ends = [_floor(axis, exact[-1], metric, looks)] if exact else []
    methods = list(dict.fromkeys(e.method for e in drawn))
    for method in methods:
        line = sorted((e for e in drawn if e.method == method), key=lambda e: e.cost(unit))
        ends.append(_line(axis, line, metric, looks[method], [e.cost(unit) for e in line]))
    _scale(axis, [e.estimate(metric) for e in entries])
    name_ends(axis, ends)


def _compute_axis(axis: Axes, entries: list[Entry], unit: str) -> None:
    """Logarithmic, with ticks where the budgets are, or at the cost that all rows have."""
    axis.set_xscale("log")
    first = [[e.cells[name].iloc[0] for name in ("budget_amount", "budget_unit")] for e in entries]
    ticks = sorted({float(amount) for amount, name in first if name == unit})
    costs = {entry.cost(unit) for entry in entries}
    ticks = ticks or (sorted(costs) if len(costs) == 1 else [])
    if ticks:
        axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_xlabel(f"measured {unit} per sample")
    axis.margins(x=0.12)


def _floor(axis: Axes, exact: Entry, metric: str, looks: MethodLooks) -> End:
    """What exact draws score does not depend on compute: a band across the panel."""
    found, ink = exact.estimate(metric), looks[exact.method].colour
    half = np.nan_to_num(found.half)
    axis.axhspan(found.mean - half, found.mean + half, color="#dcdcdc", lw=0, zorder=0.5)
    axis.axhline(found.mean, color=ink, lw=0.9, ls=(0, (4, 3)), zorder=0.6)
    what = "the law’s own" if metric == "reward" else "floor"
    return End(found.mean, f"{exact.name} ({what})", MethodLook(ink, "_"))


def _line(axis: Axes, entries: list[Entry], metric: str, look: MethodLook, x: list[float]) -> End:
    found = [e.estimate(metric) for e in entries]
    y = [f.mean for f in found]
    axis.errorbar(
        x,
        y,
        yerr=np.nan_to_num([f.half for f in found]),
        color=look.colour,
        marker=look.marker,
        ms=6.5,
        mec="white",
        mew=0.4,
        lw=1.4,
        elinewidth=1.0,
        alpha=0.85,
        zorder=3,
    )
    return End(y[-1], entries[-1].method, look)


def _scale(axis: Axes, found: list[MeanInterval]) -> None:
    """Logarithmic where positive values span more than a factor of eight, else without outliers."""
    means = [f.mean for f in found]
    lows = [f.low for f in found if math.isfinite(f.low)]
    if means and min(means + lows) > 0 and max(means) > 8 * min(means):
        _logarithmic(axis)
    elif means:
        low, high = window(found)
        pad = 0.07 * (high - low) or 0.07 * abs(high) or 1.0
        axis.set_ylim(low - pad, high + pad)


def _logarithmic(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    low, high = axis.get_ylim()
    steps = [a * 10.0**k for k in range(-9, 9) for a in (1, 2, 5)]
    axis.yaxis.set_major_locator(FixedLocator([s for s in steps if low <= s <= high]))


def window(found: list[MeanInterval]) -> tuple[float, float]:
    """The range of the intervals, cut at three interquartile ranges beyond the quartiles.

    It is cut only where the rest would otherwise be pressed into a third of the panel, by one far
    point such as the untilted prior under a sharp reward.
    """
    means = np.array([f.mean for f in found])
    halves = np.nan_to_num([f.half for f in found])
    first, third = np.quantile(means, [0.25, 0.75])
    fence = np.array([-3, 3]) * (third - first) + [first, third]
    inside = (means >= fence[0]) & (means <= fence[1])
    low, high = (means - halves), (means + halves)
    full = float(low.min()), float(high.max())
    cut = max(float(low[inside].min()), fence[0]), min(float(high[inside].max()), fence[1])
    return cut if 0 < 3 * (cut[1] - cut[0]) < full[1] - full[0] else full
