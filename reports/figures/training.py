"""Losses by step, a panel per method and loss, a line per fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from reports.data.training import Loss, thinned
from reports.figures import small_panels
from reports.figures.palette import MethodLooks
from reports.text.labels import listed
from reports.text.numbers import short

COLUMNS, MOST_PANELS, MOST_POINTS = 4, 24, 100


def training_figure(found: Sequence[Loss], looks: MethodLooks) -> Markup:
    """The first `MOST_PANELS` losses of a problem."""
    shown = found[:MOST_PANELS]
    columns = min(COLUMNS, len(shown))
    panels = [(k % columns, k // columns, _panel(loss, looks)) for k, loss in enumerate(shown)]
    alt = (
        f"Losses of {listed(list(dict.fromkeys(loss.method for loss in shown)))} by step of their "
        f"fits on {shown[0].problem.title}; first and last values are in the table below"
    )
    return small_panels.figure(panels, alt)


def _panel(loss: Loss, looks: MethodLooks) -> str:
    curves = [thinned(curve, MOST_POINTS) for curve in loss.curves]
    steps, values = np.concatenate(curves).T.tolist()
    x, y = small_panels.across(steps, log=False), small_panels.downward(values)
    ends = short(x.low), short(x.high if max(steps) > min(steps) else x.low)
    frame = small_panels.frame(f"{loss.method} · {loss.name}", "step", y, ends)
    colour = looks[loss.method].colour
    lines = (small_panels.line(curve.tolist(), x, y, colour) for curve in curves)
    return f'{frame}<g opacity=".75">{"".join(lines)}</g>'
