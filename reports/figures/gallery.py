"""Pictures of the samples: the same noise, so the same sample index, for every method."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass

import matplotlib.image
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from reports.data.run import RunTables, stored_arrays
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary, slug
from reports.figures.palette import MethodLooks
from reports.figures.svg import panels, styled, to_svg
from reports.text.numbers import decimals, fixed

PER_STRIP = 10
LARGEST = 128
"""Pixels per side; larger images are averaged down, to keep the page small."""
PLOTTED = 2048


@dataclass(frozen=True)
class Picture:
    """One image with its caption and tooltip."""

    data: str
    caption: str
    tip: str


@dataclass(frozen=True)
class Strip:
    """A method's pictures, in the order of the sample index."""

    method: str
    colour: str
    pictures: list[Picture]


@dataclass(frozen=True)
class Gallery:
    """What the methods returned on one problem at one budget; strips or one figure of points."""

    problem: ProblemKey
    budget: str
    seed: int
    condition: str
    strips: list[Strip]
    figure: str


@dataclass(frozen=True)
class _Shown:
    """The stored samples of the cell that stands for an entry."""

    entry: Entry
    cell: str
    arrays: dict[str, np.ndarray]


def galleries(run: RunTables, summary: Summary, looks: MethodLooks) -> list[Gallery]:
    """One per problem and budget that has stored samples."""
    places = [(p, budget) for p in summary.problems for budget in summary.budgets(p)]
    made = (_gallery(run, summary, looks, problem, budget) for problem, budget in places)
    return [gallery for gallery in made if gallery is not None]


def _gallery(
    run: RunTables, summary: Summary, looks: MethodLooks, problem: ProblemKey, budget: str
) -> Gallery | None:
    entries = [e for e in summary.of(problem, budget) if len(e.done)]
    if not entries:
        return None
    seed, condition = _common(entries)
    found = (_shown(run, entry, seed, condition) for entry in entries)
    shown = [s for s in found if s is not None]
    images = [s for s in shown if "rendered" in s.arrays]
    points = [s for s in shown if "rendered" not in s.arrays and _plottable(s.arrays["x"])]
    rows = run.samples[run.samples["cell"].isin([s.cell for s in images])]
    strips = [_strip(rows, s, looks) for s in images]
    name = f"points-{problem.slug}-{slug(budget)}"
    figure = _scatter(points, looks, name) if points else ""
    return Gallery(problem, budget, seed, condition, strips, figure) if shown else None


def _common(entries: list[Entry]) -> tuple[int, str]:
    """The seed and condition that most methods have, the smallest of those."""
    counts: Counter[tuple[int, str]] = Counter()
    for entry in entries:
        counts.update(set(zip(entry.done["seed"], entry.done["condition"], strict=True)))
    seed, condition = min(counts, key=lambda key: (-counts[key], key))
    return int(seed), str(condition)


def _shown(run: RunTables, entry: Entry, seed: int, condition: str) -> _Shown | None:
    done = entry.done
    here = (done["seed"] == seed) & (done["condition"] == condition)
    for cell, attempt in zip(done["cell"][here], done["attempt"][here], strict=True):
        arrays = stored_arrays(run.path, cell, attempt)
        if "x" in arrays or "rendered" in arrays:
            return _Shown(entry, cell, arrays)
    return None


def _plottable(x: np.ndarray) -> bool:
    return x.ndim == 2 and x.shape[1] >= 2


def _strip(samples: pd.DataFrame, shown: _Shown, looks: MethodLooks) -> Strip:
    places = decimals(MeanInterval(value) for value in samples["reward"])
    rows = samples[samples["cell"] == shown.cell].set_index("index")
    images = shown.arrays["rendered"][:PER_STRIP]
    pictures = [_picture(image, rows, i, places) for i, image in enumerate(images)]
    return Strip(shown.entry.method, looks[shown.entry.method].colour, pictures)


def _picture(image: np.ndarray, rows: pd.DataFrame, index: int, places: int) -> Picture:
    scores = {m: float(rows[m].get(index, np.nan)) for m in ("reward", "judge")}
    known = {m: fixed(v, places) for m, v in scores.items() if np.isfinite(v)}
    tip = ", ".join([f"sample {index}", *(f"{m} {v}" for m, v in known.items())])
    return Picture(png(image), known.get("reward", ""), tip)


def png(image: np.ndarray) -> str:
    """A data URI of uint8 (H, W, 3), averaged down to at most LARGEST pixels a side."""
    factor = -(-max(image.shape[:2]) // LARGEST)
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    buffer = io.BytesIO()
    small = blocks.mean((1, 3)).round().astype(np.uint8)
    matplotlib.image.imsave(buffer, small, format="png", metadata={"Software": "tiltbench"})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _scatter(shown: list[_Shown], looks: MethodLooks, name: str) -> str:
    """Small multiples; the exact samples lie in grey behind every other method's."""
    exact = next((s.arrays["x"] for s in shown if s.entry.is_floor), None)
    limits = _limits(
        [s.arrays["x"] for s in shown if s.entry.is_floor or s.entry.is_untilted]
        or [s.arrays["x"] for s in shown]
    )
    with styled():
        figure, axes = panels(len(shown), min(len(shown), 5), 2.2, 2.35)
        for axis, one in zip(axes, shown, strict=True):
            _points(axis, one, None if one.entry.is_floor else exact, limits, looks)
        figure.subplots_adjust(left=0.004, right=0.996, top=0.94, bottom=0.004, wspace=0.05)
        names = ", ".join(one.entry.method for one in shown)
        return to_svg(figure, name, f"First two coordinates of the samples of {names}")


def _limits(arrays: list[np.ndarray]) -> np.ndarray:
    """(2, 2): low and high of the first two coordinates, without the outermost points."""
    stacked = np.concatenate(arrays)[:, :2]
    low, high = np.nanquantile(stacked, [0.005, 0.995], axis=0)
    pad = 0.18 * (high - low)
    return np.stack([low - pad, high + pad])


def _points(
    axis: Axes, shown: _Shown, behind: np.ndarray | None, limits: np.ndarray, looks: MethodLooks
) -> None:
    look, x = looks[shown.entry.method], shown.arrays["x"][:PLOTTED]
    dots = {"linewidth": 0, "ax": axis, "rasterized": True}
    if behind is not None:
        grey = behind[:PLOTTED]
        sns.scatterplot(x=grey[:, 0], y=grey[:, 1], color="#bdbdbd", s=11, **dots)
    sns.scatterplot(x=x[:, 0], y=x[:, 1], color=look.colour, alpha=0.5, s=5, **dots)
    sns.despine(ax=axis, left=True, bottom=True)
    axis.set_title(shown.entry.method, color=look.ink, fontsize=9)
    axis.set(xlim=limits[:, 0], ylim=limits[:, 1], xticks=[], yticks=[], xlabel="", ylabel="")
    outside = float(np.mean(np.any((x[:, :2] < limits[0]) | (x[:, :2] > limits[1]), axis=1)))
    if outside > 0.005:
        axis.text(
            0.97,
            0.03,
            f"{outside:.0%} outside",
            transform=axis.transAxes,
            ha="right",
            fontsize=7.5,
            color="#777777",
        )
