"""Small panels side by side in the page's own colours, as one SVG: frames, ends of axes, lines.

Plain SVG follows light and dark and stays small; what lies between the ends of an axis is linear
or logarithmic, and the table below a figure has the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from reports.data.statistics import MeanInterval
from reports.figures.answer import Scale
from reports.figures.curves import window
from reports.text.numbers import MINUS, scientific, short

WIDE, HIGH = 250, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 24, 36

Point = tuple[float, float]

READABLE, LARGEST = 200, 400
"""Pixels of a panel below which its letters are too small, so that a narrower screen scrolls; and
above which there is nothing more to see."""
LETTERS = 26
"""Of a title, at the width of a panel."""


def figure(panels: Sequence[tuple[int, int, str]], alt: str) -> Markup:
    """The SVG of (column, row, content); alt says what it shows and where its values are."""
    columns, rows = 1 + max(p[0] for p in panels), 1 + max(p[1] for p in panels)
    placed = "".join(
        f'<g transform="translate({WIDE * column} {HIGH * row})">{content}</g>'
        for column, row, content in panels
    )
    return Markup(  # everything variable in it is escaped
        f'<svg role="img" class="answer" style="min-width:{READABLE * columns}px;'
        f'max-width:{LARGEST * columns}px" '
        f'viewBox="0 0 {WIDE * columns} {HIGH * rows}" aria-label="{escape(alt)}">{placed}</svg>'
    )


def frame(title: str, label: str, y: Scale, ends: tuple[str, str]) -> str:
    """Title, axes and what stands at their ends; `ends` is the text of those across."""
    across = ((ends[0], LEFT, "start"), (ends[1], WIDE - RIGHT, "end"))
    down = ((y.low, HIGH - BOTTOM), (y.high, TOP + 8))
    shown = title if len(title) <= LETTERS else f"{title[:LETTERS]}…"
    return "".join([
        f'<text class="title" x="{LEFT}" y="14">{escape(shown)}</text>',
        f'<path d="M{LEFT} {TOP}V{HIGH - BOTTOM}H{WIDE - RIGHT}" class="grid"/>',
        *(f'<text x="{at}" y="{HIGH - 20}" text-anchor="{anchor}">{escape(text)}</text>'
          for text, at, anchor in across),
        *(f'<text x="{LEFT - 4}" y="{at}" text-anchor="end">{tick(value)}</text>'
          for value, at in down),
        f'<text class="title" x="{(LEFT + WIDE - RIGHT) / 2:.0f}" y="{HIGH - 6}" '
        f'text-anchor="middle">{escape(label)}</text>',
    ])  # fmt: skip


def tick(value: float) -> str:
    """A value in the room that there is beside an axis."""
    if 0 < abs(value) < 1e-2:
        digits, power = f"{value:.1e}".split("e")
        return f"{digits}e{int(power)}".replace("-", MINUS)
    return scientific(value) if value >= 1e5 else short(value)


def downward(values: Sequence[float]) -> Scale:
    """Logarithmic where values are positive and far apart, else without outliers."""
    positive = min(values) > 0 and max(values) > 8 * min(values)
    low, high = (min(values), max(values)) if positive else window([*map(MeanInterval, values)])
    return Scale(low, high if high > low else low + 1, HIGH - BOTTOM, TOP, log=positive)


def across(values: Sequence[float], margin: float = 1.2, log: bool = True) -> Scale:
    """Logarithmic with a margin, or linear from end to end."""
    low, high = min(values), max(values)
    if log:
        return Scale(low / margin, high * margin, LEFT, WIDE - RIGHT, log=True)
    return Scale(low, high if high > low else low + 1, LEFT, WIDE - RIGHT, log=False)


def line(points: Sequence[Point], x: Scale, y: Scale, colour: str, title: str = "") -> str:
    """Joined points; a single one as a dot.  Where a value is not finite there is a gap."""
    pieces, begun = [], False
    for a, b in points:
        if math.isfinite(b):
            pieces.append(f"{'L' if begun else 'M'}{x(a):.1f} {y(b):.1f}")
            begun = True
        else:
            begun = False
    if not pieces:
        return ""
    path = "".join(pieces) + ("h0" if len(pieces) == 1 else "")
    dot = ";stroke-width:5;stroke-linecap:round" if len(pieces) == 1 else ""
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<path d="{path}" style="--c:{colour}{dot}">{told}</path>'
