"""Figures of a sweep: history, importance, Pareto front, parallel coordinates."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from reports.figures.end_labels import End, name_ends
from reports.figures.palette import MethodLooks
from reports.figures.svg import FAINT, INK, panels, styled, to_svg
from reports.text.numbers import short

WIDE = 8
"""Ratio of positive values beyond which an axis is logarithmic."""


def history(trials: pd.DataFrame, looks: MethodLooks, name: str) -> str:
    """Every trial's first objective, and the best so far, against tuning work."""
    done = trials[trials["state"] == "complete"]
    if done.empty:
        return ""
    objective, lower = _first(trials)
    with styled():
        figure, (axis,) = panels(1, 1, 7.2, 3.2)
        ends = []
        for method, own in done.groupby("method", sort=False):
            look, best = (
                looks[str(method)],
                own["value"].cummin() if lower else own["value"].cummax(),
            )
            axis.plot(
                own["spent"], own["value"], look.marker, color=look.colour, ms=3.5, alpha=0.45
            )
            axis.step(own["spent"], best, where="post", color=look.colour, lw=1.5)
            ends.append(End(float(best.iloc[-1]), str(method), look))
        axis.set(xlabel="tuning work", ylabel=f"{objective} on tuning seeds")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
        _scale(axis, done["value"].to_numpy(float), lower)
        name_ends(axis, ends)
        figure.subplots_adjust(left=0.15, right=0.78, top=0.96, bottom=0.16)
        return to_svg(figure, name, "Objective of every trial against tuning work")


def _first(trials: pd.DataFrame) -> tuple[str, bool]:
    """The first objective, and whether lower is better."""
    directions = json.loads(trials["directions"].iloc[0])
    objective = next(iter(json.loads(_any_objectives(trials))), next(iter(directions)))
    return objective, directions[objective] == "minimize"


def _any_objectives(trials: pd.DataFrame) -> str:
    full = trials[trials["objectives"] != "{}"]["objectives"]
    return str(full.iloc[0]) if len(full) else "{}"


def _scale(axis: Axes, values: np.ndarray[Any, Any], lower: bool) -> None:
    """Logarithmic where values are positive and spread; else without the far bad tail."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > WIDE * low:
        axis.set_yscale("log")
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
        return
    near = np.quantile(values, [0.0, 0.75] if lower else [0.25, 1.0])
    pad = 0.1 * float(near[1] - near[0]) or 0.1 * abs(high) or 1.0
    axis.set_ylim(float(near[0]) - pad, float(near[1]) + pad)


def importance(shares: pd.DataFrame, looks: MethodLooks, name: str) -> str:
    """Share of each parameter in the variation of each objective."""
    if shares.empty:
        return ""
    methods = list(shares["method"].unique())
    tallest = max(shares.groupby("method").size())
    with styled():
        figure, axes = panels(len(methods), 2, 4.4, 0.7 + 0.24 * tallest)
        for axis, method in zip(axes, methods, strict=True):
            own = shares[shares["method"] == method].iloc[::-1]
            several = own["objective"].nunique() > 1
            names = own["parameter"] + (" → " + own["objective"] if several else "")
            places = np.arange(len(own))
            axis.barh(places, own["share"], color=looks[method].colour, height=0.6)
            axis.set_yticks(places, names)
            axis.set(title=method, xlim=(0, 1))
            axis.grid(visible=False, axis="y")
        figure.tight_layout()
        return to_svg(figure, name, "Share of each parameter in the variation of the objective")


def pareto(trials: pd.DataFrame, looks: MethodLooks, name: str) -> str:
    """The first two objectives of every trial, and the front of each method."""
    done = trials[trials["state"] == "complete"]
    found = [json.loads(o) for o in done["objectives"]]
    if not found or len(found[0]) < 2:
        return ""
    directions = json.loads(trials["directions"].iloc[0])
    first, second = list(directions)[:2] if set(directions) == set(found[0]) else list(found[0])[:2]
    with styled():
        figure, (axis,) = panels(1, 1, 7.2, 3.6)
        ends = []
        for method, own in done.groupby("method", sort=False):
            look = looks[str(method)]
            points = np.array(
                [[json.loads(o)[n] for n in (first, second)] for o in own["objectives"]]
            )
            signs = [1 if directions[n] == "minimize" else -1 for n in (first, second)]
            front = points[_front(points * signs)]
            axis.plot(*points.T, look.marker, color=look.colour, ms=3.5, alpha=0.4)
            axis.plot(*front.T, "-", marker=look.marker, color=look.colour, lw=1.3, ms=6)
            default = own[own["trial"] == 0]
            if len(default):
                start = json.loads(default["objectives"].iloc[0])
                axis.plot(start[first], start[second], "o", mfc="none", mec=INK, ms=10)
            ends.append(End(float(front[-1, 1]), str(method), look))
        axis.set(xlabel=first, ylabel=second)
        name_ends(axis, ends)
        figure.subplots_adjust(left=0.15, right=0.78, top=0.96, bottom=0.15)
        return to_svg(figure, name, "Every trial in two objectives")


def _front(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Indices of the points that none other beats in both (lower is better), by the first."""
    better = (points[:, None] <= points[None]).all(-1) & (points[:, None] < points[None]).any(-1)
    kept = np.flatnonzero(~better.any(0))
    ordered: np.ndarray[Any, Any] = kept[np.argsort(points[kept, 0], kind="stable")]
    return ordered


def parallel(trials: pd.DataFrame, name: str) -> str:
    """Parallel coordinates of one method: parameters and the first objective."""
    done = trials[trials["state"] == "complete"]
    if len(done) < 2:
        return ""
    objective, lower = _first(trials)
    rows = [
        {**json.loads(p), objective: v} for p, v in zip(done["params"], done["value"], strict=True)
    ]
    frame = pd.DataFrame(rows)
    order = done["value"].rank(ascending=lower).to_numpy(float) / len(done)
    with styled():
        figure, (axis,) = panels(1, 1, max(4.5, 1.5 * len(frame.columns)), 2.9)
        columns = [_column(frame[c]) for c in frame.columns]
        heights = np.array([column[0] for column in columns])
        colours = colormaps["viridis"]
        for i in np.argsort(-order):
            axis.plot(heights[:, i], color=colours(0.95 * order[i]), lw=1.0, alpha=0.7)
        for chosen, style in ((done["trial"] == 0, "--"), (done["selected"], "-")):
            for i in np.flatnonzero(chosen.to_numpy(bool)):
                axis.plot(heights[:, i], style, color=INK, lw=1.8)
        for x, (_, ticks) in enumerate(columns):
            axis.axvline(x, color=FAINT, lw=0.8)
            for height, label in ticks:
                axis.text(x + 0.03, height, label, fontsize=7.5, va="center")
        axis.set_xticks(range(len(columns)), list(frame.columns))
        axis.set_yticks([])
        axis.grid(visible=False)
        axis.set_xlim(-0.1, len(columns) - 0.65)
        figure.tight_layout()
        return to_svg(figure, name, "Parameters and objective of every trial, one line each")


Ticks = list[tuple[float, str]]


def _column(values: pd.Series[Any]) -> tuple[np.ndarray[Any, Any], Ticks]:
    """Heights in [0, 1] and ticks of one axis; what a trial does not have leaves a gap."""
    known = values.dropna()
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in known):
        names = sorted({str(v) for v in known})
        at = {n: i / max(1, len(names) - 1) for i, n in enumerate(names)}
        heights = np.array([at.get(str(v), math.nan) for v in values])
        return heights, [(at[n], n) for n in names]
    numbers = values.to_numpy(float)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    logarithmic = low > 0 and high > WIDE * low
    scaled = np.log(numbers) if logarithmic else numbers
    start, end = np.nanmin(scaled), np.nanmax(scaled)
    heights = (scaled - start) / (end - start) if end > start else scaled * 0 + 0.5
    return heights, [
        (float(np.nanmin(heights)), short(low)),
        (float(np.nanmax(heights)), short(high)),
    ]
