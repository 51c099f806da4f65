"""Labels at the right-hand end of a panel: a legend that stands where the lines end."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes

from reports.figures.palette import MethodLook
from reports.figures.svg import FAINT
from reports.text.numbers import short

GAP = 0.066
"""Distance of two labels, in heights of the panel."""
LONGEST_LABEL = 25
"""Characters of a label that find room."""
LINE = 0.155
"""Inches that a label needs to be read."""


class End(NamedTuple):
    """Where a method's line ends, what it is called and how it looks."""

    y: float
    text: str
    look: MethodLook


def high_enough(height: float, labels: int) -> float:
    """Inches of a panel: its usual height, or what so many labels need."""
    return max(height, LINE * labels / 0.8)


def name_ends(axis: Axes, ends: list[End]) -> None:
    """Names beside the last points, moved apart where they would overlap.

    The panel's limits have to be final: a value outside of them is written behind its name.
    """
    axis.set_ylim(axis.get_ylim())
    to_panel = axis.transData + axis.transAxes.inverted()
    x = axis.get_xlim()[1]
    heights = [float(to_panel.transform((x, end.y))[1]) for end in ends]
    shown = [min(max(height, 0.0), 1.0) for height in heights]
    for end, height, there, place in zip(ends, heights, shown, spread(shown), strict=True):
        _label(axis, end, _beyond(end, height), there, place)


def _beyond(end: End, height: float) -> str:
    inside = -0.001 <= height <= 1.001
    return "" if inside else f"  {'↑' if height > 1 else '↓'} {short(end.y)}"


def _label(axis: Axes, end: End, beyond: str, height: float, place: float) -> None:
    free: dict[str, Any] = {"transform": axis.transAxes, "clip_on": False}
    axis.plot([1.0, 1.025], [height, place], color=FAINT, lw=0.7, **free)
    marker: dict[str, Any] = {"marker": end.look.marker, "ms": 4.5, "mew": 0.8}
    axis.plot([1.045], [place], color=end.look.colour, **marker, **free)
    name = end.text if len(end.text) <= LONGEST_LABEL else end.text[: LONGEST_LABEL - 1] + "…"
    axis.text(1.07, place, name + beyond, color=end.look.ink, va="center", fontsize=8.2, **free)


def spread(heights: list[float], gap: float = GAP) -> list[float]:
    """Heights in [0, 1] moved as little as needed so that neighbours are `gap` apart.

    Neighbours that would overlap are merged into a block around their mean; if all of them do not
    fit, they move closer together.
    """
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    blocks: list[list[int]] = []
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        blocks.append([i])
        while len(blocks) > 1 and _overlap(blocks[-2], blocks[-1], heights, gap):
            last = blocks.pop()
            blocks[-1] += last
    pairs = [pair for b in blocks for pair in zip(b, _stack(b, heights, gap), strict=True)]
    return [place for _, place in sorted(pairs)]


def _stack(block: list[int], heights: list[float], gap: float) -> list[float]:
    """Places of a block: around the mean of its heights, inside the panel."""
    half = (len(block) - 1) / 2 * gap
    centre = sum(heights[i] for i in block) / len(block)
    low = min(max(centre, half), max(1 - half, half)) - half
    return [low + k * gap for k in range(len(block))]


def _overlap(a: list[int], b: list[int], heights: list[float], gap: float) -> bool:
    return _stack(b, heights, gap)[0] - _stack(a, heights, gap)[-1] < gap - 1e-12
