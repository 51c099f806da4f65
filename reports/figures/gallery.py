"""Pictures of the samples: the same noise, so the same sample index, for every method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reports.data.run import RunTables, stored_arrays
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary, slug
from reports.figures.palette import MethodLooks
from reports.figures.pictures import Encoding, encoded
from reports.figures.svg import panels, styled, to_svg
from reports.text.numbers import decimals, fixed

PER_STRIP = 10
EXTREMES = ("best", "median", "worst")
PLOTTED = 2048


@dataclass(frozen=True)
class Picture:
    """One image with its caption and tooltip; `rank` says why it was picked, if it was.

    image: uint8 (H, W, 3).  data: the same as an address, "" until it is known how small the
    pictures of this page have to be.
    """

    image: np.ndarray
    caption: str
    tip: str
    rank: str = ""
    data: str = ""


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


def galleries(
    run: RunTables, summary: Summary, looks: MethodLooks
) -> tuple[list[Gallery], Encoding]:
    """One per problem and budget that has stored samples, and how their pictures are encoded."""
    places = [(p, budget) for p in summary.problems for budget in summary.budgets(p)]
    made = (_gallery(run, summary, looks, problem, budget) for problem, budget in places)
    found = [gallery for gallery in made if gallery is not None]
    pictures = [p.image for gallery in found for strip in gallery.strips for p in strip.pictures]
    uris, encoding = encoded(pictures)
    addresses = iter(uris)
    return [_addressed(gallery, addresses) for gallery in found], encoding


def _addressed(gallery: Gallery, uris: Iterator[str]) -> Gallery:
    """With the address of every picture, in the order in which they were encoded."""
    strips = [
        replace(strip, pictures=[replace(p, data=next(uris)) for p in strip.pictures])
        for strip in gallery.strips
    ]
    return replace(gallery, strips=strips)


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
        arrays = stored_arrays(run, cell, attempt)
        if "x" in arrays or "rendered" in arrays:
            return _Shown(entry, cell, arrays)
    return None


def _plottable(x: np.ndarray) -> bool:
    return x.ndim == 2 and x.shape[1] >= 2


def _strip(samples: pd.DataFrame, shown: _Shown, looks: MethodLooks) -> Strip:
    places = decimals(MeanInterval(value) for value in samples["reward"])
    rows = samples[samples["cell"] == shown.cell].set_index("index")
    images = shown.arrays["rendered"]
    firsts = [("", i) for i in range(min(PER_STRIP, len(images)))]
    chosen = [*firsts, *extremes(rows, len(images))]
    pictures = [_picture(images[i], rows, i, places, rank) for rank, i in chosen]
    return Strip(shown.entry.method, looks[shown.entry.method].colour, pictures)


def extremes(rows: pd.DataFrame, count: int) -> list[tuple[str, int]]:
    """Best, median and worst by reward of the `count` that are pictures; the first of equals.

    None of fewer pictures than a row shows anyway, and none where a reward is not known.
    """
    rewards = [float(rows["reward"].get(i, np.nan)) for i in range(count)]
    if count <= PER_STRIP or not np.all(np.isfinite(rewards)):
        return []
    order = sorted(range(count), key=lambda i: (-rewards[i], i))
    worst = min(range(count), key=lambda i: (rewards[i], i))
    return list(zip(EXTREMES, (order[0], order[(count - 1) // 2], worst), strict=True))


def _picture(image: np.ndarray, rows: pd.DataFrame, index: int, places: int, rank: str) -> Picture:
    scores = {m: float(rows[m].get(index, np.nan)) for m in ("reward", "judge")}
    known = {m: fixed(v, places) for m, v in scores.items() if np.isfinite(v)}
    first = f"{rank}: sample {index}" if rank else f"sample {index}"
    tip = ", ".join([first, *(f"{m} {v}" for m, v in known.items())])
    return Picture(image, known.get("reward", ""), tip, rank)


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
        head = TITLE / figure.get_figheight()
        figure.subplots_adjust(
            left=0.004, right=0.996, top=1 - head, bottom=0.004, wspace=0.05, hspace=0.28
        )
        names = ", ".join(one.entry.method for one in shown)
        return to_svg(figure, name, f"First two coordinates of the samples of {names}")


TITLE, LETTERS, LINES = 0.5, 30, 3
"""Room above the first row in inches; letters in a line of a title, and lines."""


def _wrapped(label: str) -> str:
    """A label in short lines, broken behind commas where that is possible."""
    spaced = wrap(label.replace(",", ", "), LETTERS)
    lines = [line.replace(", ", ",") for line in spaced]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[2]}…"])


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
    if behind is not None:
        grey = behind[:PLOTTED]
        axis.scatter(grey[:, 0], grey[:, 1], 11, "#bdbdbd", linewidths=0, rasterized=True)
    axis.scatter(x[:, 0], x[:, 1], 5, look.colour, alpha=0.5, linewidths=0, rasterized=True)
    axis.spines[:].set_visible(False)
    axis.set_title(_wrapped(shown.entry.method), color=look.ink, fontsize=8)
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
