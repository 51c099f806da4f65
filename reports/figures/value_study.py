"""Errors of value estimates against their compute: a row per quantity, a column per time."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from reports.data.value_study import ERRORS, FAMILIES, OTHER, Estimate, ValueStudy
from reports.figures import small_panels
from reports.figures.answer import Scale
from reports.text.numbers import short

DASHES = {1: "", 2: ";stroke-dasharray:7 3", 4: ";stroke-dasharray:3 2"}
"""By evaluations per draw; more of them are dotted."""
DOTTED = ";stroke-dasharray:1 3"


def value_figure(study: ValueStudy) -> Markup:
    """ "" where nothing has a cost, as of draws of the exact posterior alone."""
    wanted = [q for q in ERRORS if any(_shown(study, q, t) for t in study.times)]
    panels = [
        (column, row, _panel(rows, quantity, t))
        for row, quantity in enumerate(wanted)
        for column, t in enumerate(study.times)
        if (rows := _shown(study, quantity, t))
    ]
    alt = (
        f"Errors of estimates of {', '.join(wanted)} against network evaluations on {study.task}, "
        f"{study.reward}, at t = {', '.join(f'{t:g}' for t in study.times)}; the values are in the "
        "table below"
    )
    return small_panels.figure(panels, alt) if panels else Markup("")


def _shown(study: ValueStudy, quantity: str, t: float) -> list[Estimate]:
    """Of samplers that cost anything."""
    found = study.errors(quantity, t)
    return [one for one in found if one.cost > 0 and not one.of_reference]


def _panel(rows: Sequence[Estimate], quantity: str, t: float) -> str:
    x = small_panels.across([one.cost for one in rows])
    y = small_panels.downward([one.value for one in rows])
    ends = short(min(one.cost for one in rows)), short(max(one.cost for one in rows))
    lines = (
        _line([one for one in rows if one.sampler == sampler], x, y)
        for sampler in dict.fromkeys(one.sampler for one in rows)
    )
    return small_panels.frame(
        f"{quantity}, t = {t:g}", "evaluations per estimate", y, ends
    ) + "".join(lines)


def _line(rows: Sequence[Estimate], x: Scale, y: Scale) -> str:
    points = sorted((one.cost, one.value) for one in rows)
    style = colour_of(rows[0].sampler) + DASHES.get(rows[0].evaluations, DOTTED)
    return small_panels.line(points, x, y, style, rows[0].sampler)


def colour_of(sampler: str) -> str:
    """That of its family; of exact draws that of letters, light on dark."""
    family = sampler.partition("-")[0]
    return "var(--ink)" if family == "exact" else FAMILIES.get(family, OTHER)


def legend(study: ValueStudy) -> Markup:
    """Families with their colours."""
    found = dict.fromkeys(sampler.partition("-")[0] for sampler in study.samplers)
    dots = (
        f'<span><i class="dot" style="background:{colour_of(name)}"></i>{escape(name)}</span>'
        for name in found
    )
    return Markup(" ".join(dots))  # everything variable in it is escaped
