"""What a method is predicted to compute, with the network rows of every call.

A method counts calls of the flow and the map; how many rows of the network a call takes is the
task's business, so that it is counted here and in no method.  Where the flow's rows follow the
time, `ProblemSpec.calls` weighs the calls by it; what a method counts past it is predicted from
above, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.core.methods import FineTuning, Method
from bench.core.units import KINDS
from bench.core.values import ProblemSpec
from bench.core.work import PLACE, Work

Predicted = Callable[[ProblemSpec], Work]
"""Calls as a method counts them."""


def sample_work(method: Method[Any], spec: ProblemSpec) -> Work:
    """Predicted work per returned sample."""
    return _counted(method.work, spec)


def fit_work(method: FineTuning[Any], spec: ProblemSpec) -> Work:
    """Predicted work of the whole fit."""
    return _counted(method.fit_work, spec)


def _counted(predicted: Predicted, spec: ProblemSpec) -> Work:
    work, each = predicted(spec), {"flow": spec.flow_rows, "map": spec.map_rows}
    if set(each.values()) == {1}:
        return work
    factors = [each.get(role, 1) for role, _ in PLACE]
    return Work(
        vector=tuple(rows * factor for rows, factor in zip(work.vector, factors, strict=True)),
        flops=work.flops,
        seconds=work.seconds,
        upper_bound=work.upper_bound or _counts_past_the_times(predicted, spec),
    )


def _counts_past_the_times(predicted: Predicted, spec: ProblemSpec) -> bool:
    """Whether flow calls are left when none of those that are counted by their time costs a row."""
    if spec.timing.rows is None:
        return False
    free = replace(spec, timing=replace(spec.timing, rows=lambda _: 0))
    left = predicted(free)
    return any(left.vector[PLACE["flow", kind]] for kind in KINDS)
