"""The grammar of budgets: `paper-nfe=500`, `seconds=2/run`, `paper-nfe=100:fit=1e6`."""

from __future__ import annotations

import math

from bench.core.params import UserError
from bench.core.units import UNITS
from bench.core.work import Budget


def parse_budget(text: str) -> Budget | None:
    """`paper-nfe=500`, `seconds=2/run`, `paper-nfe=100:fit=1e6,served=10000`, or `none`.

    `none` leaves the parameters exactly as given.
    """
    if text == "none":
        return None
    head, _, tail = text.partition(":")
    unit, equals, amount = head.partition("=")
    if not equals or unit not in UNITS:
        raise UserError(
            f"cannot read the budget '{text}': write unit=amount, unit one of {', '.join(UNITS)}"
        )
    amount, slash, per = amount.partition("/")
    value = _number(amount, text)
    if slash and per not in ("sample", "run"):
        raise UserError(f"a budget is per sample or per run, not per '{per}'")
    fit, served = _fit_terms(tail, text)
    try:
        return Budget(unit, value, "run" if per == "run" else "sample", fit, served)
    except ValueError as error:
        raise UserError(str(error)) from error


def respelled_budget(text: str) -> str:
    """A budget in the one spelling that tables and identities use: `paper-nfe=1e2` is 100."""
    found = parse_budget(text)
    return "none" if found is None else str(found)


def _number(amount: str, text: str) -> float:
    try:
        value = float(amount)
    except ValueError:
        raise UserError(f"the amount '{amount}' of the budget '{text}' is not a number") from None
    if not math.isfinite(value):
        raise UserError(
            f"the budget '{text}' has no end; budget none runs methods as they are given"
        )
    return value


def _fit_terms(tail: str, text: str) -> tuple[float | None, int | None]:
    """`fit=1e6,served=10000`: what a fit may cost, and over how many samples it is spread."""
    terms: dict[str, float] = {}
    for part in filter(None, tail.split(",")):
        key, equals, amount = part.partition("=")
        if not equals or key not in ("fit", "served"):
            raise UserError(
                f"cannot read '{part}' in the budget '{text}': write unit=amount:fit=...,served=..."
            )
        terms[key] = _number(amount, text)
    served = terms.get("served")
    if served is not None and served != round(served):
        raise UserError(f"a fit serves a whole number of samples, not {served:g}: '{text}'")
    return terms.get("fit"), None if served is None else int(served)
