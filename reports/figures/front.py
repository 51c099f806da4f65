"""Fronts: a metric against every unit of compute, small panels in the page's own colours.

Grey: every row that takes part.  Coloured, joined as a staircase: those on the front.  The table
below has their values.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from reports.data.front import OnFront, competing
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures import small_panels
from reports.figures.answer import Scale
from reports.figures.palette import MethodLooks
from reports.tables.front import Fronts, cost_text


def front_figure(
    summary: Summary, problem: ProblemKey, found: Fronts, looks: MethodLooks
) -> Markup:
    """Metrics down, units across; "" without any."""
    if not found:
        return Markup("")
    units = list(dict.fromkeys(unit for by_unit in found.values() for unit in by_unit))
    panels = [
        (units.index(unit), place, _panel(competing(summary, problem, m), rows, m, unit, looks))
        for place, (m, by_unit) in enumerate(found.items())
        for unit, rows in by_unit.items()
    ]
    alt = (
        f"{' and '.join(found)} against {', '.join(units)} of {problem.title}; the rows on the "
        "fronts are in the table below"
    )
    return small_panels.figure(panels, alt)


def _panel(
    entries: Sequence[Entry], rows: Sequence[OnFront], metric: str, unit: str, looks: MethodLooks
) -> str:
    points = [(e.cost(unit), e.estimate(metric).mean) for e in entries if e.cost(unit) > 0]
    costs, values = zip(*points, strict=True)
    x, y = small_panels.across(costs), small_panels.downward(values)
    cloud = "".join(f"M{x(cost):.0f} {y(value):.0f}h0" for cost, value in points)
    ends = cost_text(x.low, unit), cost_text(x.high, unit)
    return (
        f"{small_panels.frame(metric, f'{unit} per sample', y, ends)}"
        f'<path d="{cloud}" style="--c:#999;stroke-width:4;stroke-linecap:round;opacity:.5"/>'
        f"{_stairs(rows, metric, x, y, looks)}"
    )


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
