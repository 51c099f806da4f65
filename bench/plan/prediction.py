"""What a method is predicted to compute, with the calls that guidance doubles.

A method counts calls of the flow and the map; whether a call runs the network twice is the task's
business, so that it is counted here and in no method.
"""

from __future__ import annotations

from typing import Any

from bench.core.methods import FineTuning, Method
from bench.core.units import Role
from bench.core.values import ProblemSpec
from bench.core.work import PLACE, Work

GUIDED: tuple[Role, ...] = ("flow", "map")
"""Whose calls run twice under classifier-free guidance."""

GUIDED_ROWS = 2


def sample_work(method: Method[Any], spec: ProblemSpec) -> Work:
    """Predicted work per returned sample."""
    return _counted(method.work(spec), spec)


def fit_work(method: FineTuning[Any], spec: ProblemSpec) -> Work:
    """Predicted work of the whole fit."""
    return _counted(method.fit_work(spec), spec)


def _counted(work: Work, spec: ProblemSpec) -> Work:
    if not spec.guided:
        return work
    factors = [GUIDED_ROWS if role in GUIDED else 1 for role, _ in PLACE]
    rows = tuple(rows * factor for rows, factor in zip(work.vector, factors, strict=True))
    return Work(vector=rows, flops=work.flops, seconds=work.seconds, upper_bound=work.upper_bound)
