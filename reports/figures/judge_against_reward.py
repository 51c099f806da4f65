"""The held-out judge against the optimised reward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.end_labels import End, high_enough, name_ends
from reports.figures.palette import MethodLook, MethodLooks
from reports.figures.svg import panels, styled, to_svg


def judge_against_reward(summary: Summary, looks: MethodLooks, problem: ProblemKey) -> str:
    """A point per method and budget; lines and growing points lead from small to large budgets."""
    figure = judge_figure(summary, looks, problem)
    alt = f"Judge against reward of {problem.title}; the values are in the headline table"
    return to_svg(figure, f"judge-{problem.slug}", alt) if figure is not None else ""


def judge_figure(summary: Summary, looks: MethodLooks, problem: ProblemKey) -> Figure | None:
    """The same as a figure of matplotlib; None where no row has both."""
    axes = ("reward", summary.judge(problem))
    entries = [e for e in summary.of(problem) if all(e.estimate(metric).known for metric in axes)]
    if not entries:
        return None
    with styled():
        trails = {m: [e for e in entries if e.method == m] for m in (e.method for e in entries)}
        figure, (axis,) = panels(1, 1, 5.7, high_enough(3.8, len(trails)))
        ends = [_trail(axis, trail, axes, looks[method]) for method, trail in trails.items()]
        axis.set(title=problem.title, xlabel="reward (optimised)", ylabel="judge (held out)")
        figure.subplots_adjust(left=0.12, right=0.68, top=0.91, bottom=0.13)
        name_ends(axis, ends)
        return figure


def _trail(axis: Axes, entries: list[Entry], metrics: tuple[str, str], look: MethodLook) -> End:
    x, y = ([e.estimate(metric) for e in entries] for metric in metrics)
    points = ([v.mean for v in x], [v.mean for v in y])
    errors: dict[str, Any] = {
        "xerr": _drawn(x),
        "yerr": _drawn(y),
    }
    axis.errorbar(*points, **errors, color=look.colour, lw=1.0, elinewidth=0.8, alpha=0.8)
    sizes = np.linspace(60, 26, len(entries))[::-1]
    axis.scatter(*points, s=sizes, color=look.colour, marker=look.marker, ec="white", zorder=3)
    return End(points[1][-1], entries[-1].method, look)


def _drawn(estimates: list[MeanInterval]) -> list[float]:
    """Half-widths of the intervals; an unknown or infinite one has no bar."""
    return [e.half if math.isfinite(e.half) else 0.0 for e in estimates]
