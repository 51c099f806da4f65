"""Fronts: a metric against every unit of compute, small panels in the page's own colours.

Grey: every row that takes part.  Coloured, joined as a staircase: those on the front.  The table
below has their values.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from reports.data.front import OnFront, competing
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.answer import Scale
from reports.figures.curves import window
from reports.figures.palette import MethodLooks
from reports.tables.front import Fronts, cost_text
from reports.text.numbers import short

WIDE, HIGH = 250, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 24, 36


def front_figure(
    summary: Summary, problem: ProblemKey, found: Fronts, looks: MethodLooks
) -> Markup:
    """Metrics down, units across; "" without any."""
    if not found:
        return Markup("")
    units = list(dict.fromkeys(unit for by_unit in found.values() for unit in by_unit))
    panels = "".join(
        f'<g transform="translate({WIDE * units.index(unit)} {HIGH * place})">'
        f"{_panel(competing(summary, problem, metric), rows, metric, unit, looks)}</g>"
        for place, (metric, by_unit) in enumerate(found.items())
        for unit, rows in by_unit.items()
    )
    alt = (
        f"{' and '.join(found)} against {', '.join(units)} of {problem.title}; the rows on the "
        "fronts are in the table below"
    )
    box = f"0 0 {WIDE * len(units)} {HIGH * len(found)}"
    return Markup(  # everything variable in it is escaped
        f'<svg role="img" class="answer" viewBox="{box}" aria-label="{escape(alt)}">{panels}</svg>'
    )


def _panel(
    entries: Sequence[Entry], rows: Sequence[OnFront], metric: str, unit: str, looks: MethodLooks
) -> str:
    points = [(e.cost(unit), e.estimate(metric).mean) for e in entries if e.cost(unit) > 0]
    x, y = _scales(points)
    cloud = "".join(f"M{x(cost):.0f} {y(value):.0f}h0" for cost, value in points)
    return (
        f'<text class="title" x="{LEFT}" y="14">{escape(metric)}</text>'
        f'<path d="M{LEFT} {TOP}V{HIGH - BOTTOM}H{WIDE - RIGHT}" class="grid"/>'
        f"{_ends(x, y, unit)}"
        f'<path d="{cloud}" style="--c:#999;stroke-width:4;stroke-linecap:round;opacity:.5"/>'
        f"{_stairs(rows, metric, x, y, looks)}"
    )


def _scales(points: Sequence[tuple[float, float]]) -> tuple[Scale, Scale]:
    costs, values = zip(*points, strict=True)
    positive = min(values) > 0 and max(values) > 8 * min(values)
    low, high = (min(values), max(values)) if positive else window([*map(MeanInterval, values)])
    return (
        Scale(min(costs) / 1.2, max(costs) * 1.2, LEFT, WIDE - RIGHT, log=True),
        Scale(low, high if high > low else low + 1, HIGH - BOTTOM, TOP, log=positive),
    )


def _ends(x: Scale, y: Scale, unit: str) -> str:
    """The ends of both axes: what lies between is logarithmic or linear, as the table tells."""
    across = ((x.low, LEFT, "start"), (x.high, WIDE - RIGHT, "end"))
    down = ((y.low, HIGH - BOTTOM), (y.high, TOP + 8))
    named = f'<text class="title" x="{(LEFT + WIDE - RIGHT) / 2:.0f}" y="{HIGH - 6}"'
    return "".join([
        *(f'<text x="{at}" y="{HIGH - 20}" text-anchor="{anchor}">'
          f"{escape(cost_text(value, unit))}</text>" for value, at, anchor in across),
        *(f'<text x="{LEFT - 4}" y="{at}" text-anchor="end">{short(value)}</text>'
          for value, at in down),
        f'{named} text-anchor="middle">{escape(unit)} per sample</text>',
    ])  # fmt: skip


def _stairs(rows: Sequence[OnFront], metric: str, x: Scale, y: Scale, looks: MethodLooks) -> str:
    """Level until something dearer is better."""
    places = [(x(row.cost), y(row.entry.estimate(metric).mean)) for row in rows]
    steps = "".join(f"H{a:.0f}V{b:.0f}" for a, b in places[1:])
    line = f'<path d="M{places[0][0]:.0f} {places[0][1]:.0f}{steps}" style="--c:var(--ink)"/>'
    dots = "".join(
        f'<circle cx="{a:.0f}" cy="{b:.0f}" r="4" style="--c:{looks[row.entry.method].colour}">'
        f"<title>{escape(row.entry.method)} {escape(row.entry.budget)}</title></circle>"
        for row, (a, b) in zip(rows, places, strict=True)
    )
    return line + dots
