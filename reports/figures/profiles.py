"""Performance profiles as staircases: share of cells against the share of distance that is left."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from reports.data.aggregates import Values
from reports.data.profiles import shares_left
from reports.data.summary import Summary
from reports.figures.answer import Scale
from reports.figures.palette import MethodLooks
from reports.text.labels import budget_label
from reports.text.numbers import percent, short

WIDTH, HEIGHT = 500, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44
LOW, HIGH = 0.01, 2.0
NAMED = 5
"""Methods with the largest area, whose names stand in the picture."""

X = Scale(LOW, HIGH, LEFT, WIDTH - RIGHT, log=True)
Y = Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP, log=False)


def profile_figure(summary: Summary, budget: str, looks: MethodLooks) -> Markup:
    """The profiles at a budget; "" for fewer than two methods."""
    found = shares_left(summary, budget)
    if len(found) < 2:
        return Markup("")
    lines = "".join(
        f'<path d="{_stairs(values)}" style="--c:{looks[method].colour}" opacity=".8">'
        f"<title>{escape(method)}</title></path>"
        for method, values in found.items()
    )
    alt = (
        f"Share of cells against the share of the base model's distance that is left, at "
        f"{budget_label(budget)}; the values are in the table below"
    )
    return Markup(  # everything variable in it is escaped
        f'<svg role="img" class="answer" style="max-width:36rem" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-label="{escape(alt)}">{_axes()}{lines}{_names(found)}</svg>'
    )


def _stairs(values: Values) -> str:
    known = np.sort(values[~np.isnan(values)])
    inside = [float(x) for x in known if x <= HIGH]
    steps = "".join(f"H{X(x):.0f}V{Y((k + 1) / values.size):.0f}" for k, x in enumerate(inside))
    return f"M{LEFT} {HEIGHT - BOTTOM}{steps}H{WIDTH - RIGHT}"


def _axes() -> str:
    down = "".join(
        f'<path class="grid" d="M{X(t):.0f} {TOP}V{HEIGHT - BOTTOM}"/>'
        f'<text x="{X(t):.0f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{short(t)}</text>'
        for t in (0.01, 0.03, 0.1, 0.3, 1.0)
    )
    across = "".join(
        f'<path class="grid" d="M{LEFT} {Y(t):.0f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{Y(t) + 4:.0f}" text-anchor="end">{percent(t)}</text>'
        for t in (0.0, 0.5, 1.0)
    )
    return (
        f'{down}{across}<text class="title" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" '
        'text-anchor="middle">← nearer to the law · share of the base model’s distance</text>'
    )


def _names(found: dict[str, Values]) -> str:
    """Of the methods with the smallest mean logarithm, in a list at the top left."""

    def far(values: Values) -> float:
        return float(np.mean(np.log(np.clip(np.nan_to_num(values, nan=HIGH), LOW, HIGH))))

    best = sorted(found, key=lambda method: far(found[method]))[:NAMED]
    return "".join(
        f'<text class="name" x="{LEFT + 6}" y="{TOP + 14 + 14 * k}">{k + 1}. {escape(name[:32])}'
        "</text>"
        for k, name in enumerate(best)
    )
