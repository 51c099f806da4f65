"""Values that are not finite are errors, which say whose they are, of which sample and when.

Inside a loop with a `Watch`, values on an accelerator are looked at when the loop reads them.
"""

from __future__ import annotations

import cmath
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from bench.core.refusals import refuse_transforms
from bench.core.watch import Watch, first_bad, watching

Scored = Callable[[Tensor], Tensor]
"""(n, *event_shape) -> (n,)."""


def all_finite(x: Tensor) -> bool:
    """Whether x holds neither a NaN nor an infinity."""
    x = x.detach()
    # A NaN or an infinity spoils the sum, which takes a fiftieth of the time of looking at each
    # value; a sum may overflow though, and then every value is looked at.
    return cmath.isfinite(x.sum().item()) or bool(torch.isfinite(x).all())


def refuse_not_finite(x: Tensor, said: Callable[[int], str]) -> None:
    """FloatingPointError(said(row)) if a row of x is not finite: now, or when a watch reads it."""
    watch = watching(x)
    if watch is not None:
        watch.doubt(first_bad(x), _raising(said))
    elif not all_finite(x):
        raise FloatingPointError(said(int(first_bad(x))))


def finite_scores(scores: Tensor, name: str, call: str = "", what: str = "the reward") -> Tensor:
    """Scores, if they are finite; a NaN is an error that names the reward and the sample."""
    refuse_not_finite(scores, _of_sample(name, call, what))
    return scores


def _of_sample(name: str, call: str, what: str) -> Callable[[int], str]:
    return lambda row: f"{what} '{name}' is not finite for sample {row}{call}"


def _raising(said: Callable[[int], str]) -> Callable[[float], None]:
    """Refuses a first bad row, unless it is -1."""

    def check(row: float) -> None:
        if row >= 0:
            raise FloatingPointError(said(int(row)))

    return check


def finite_reward(reward: Scored, name: str) -> Scored:
    """`reward` without silent NaNs: a value or gradient that is not finite is an error.

    It names the reward, the sample and the call within the cell; the loops add the step.  Outside
    the meter, so that calls made to count FLOPs are no calls of the method.
    """
    calls = itertools.count(1)

    def score(x: Tensor) -> Tensor:
        refuse_transforms("reward")
        call = f" in call {next(calls)} of the reward"
        arrived: list[Tensor] = []
        if isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled():
            # A view of its own: the hook sees what passes through this call and nothing else.
            x, watch = x.view_as(x), watching(x)  # a backward may run in a thread of its own
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: _blamed(slope, arrived, name, call, watch)
            )
        scores = finite_scores(reward(x), name, call)
        if scores.requires_grad:
            scores.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: arrived.__setitem__(slice(None), [slope])
            )
        return scores

    return score


def _blamed(
    slope: Tensor, arrived: list[Tensor], name: str, call: str, watch: Watch | None
) -> None:
    """Refuse a gradient that the reward spoilt; what came broken is not the reward's fault."""
    said = _of_sample(name, call, "the gradient of the reward")
    if watch is not None:
        excused = [first_bad(came) >= 0 for came in arrived]
        first = first_bad(slope)
        own = torch.where(excused[0], -1, first) if excused else first
        watch.doubt(own, _raising(said))
    elif not all_finite(slope) and all(all_finite(came) for came in arrived):
        raise FloatingPointError(said(int(first_bad(slope))))
