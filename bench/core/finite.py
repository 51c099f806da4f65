"""Values that are not finite are errors, which say whose they are, of which sample and when."""

from __future__ import annotations

import cmath
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from bench.core.refusals import refuse_transforms

Scored = Callable[[Tensor], Tensor]
"""(n, *event_shape) -> (n,)."""


def all_finite(x: Tensor) -> bool:
    """Whether x holds neither a NaN nor an infinity."""
    x = x.detach()
    # A NaN or an infinity spoils the sum, which takes a fiftieth of the time of looking at each
    # value; a sum may overflow though, and then every value is looked at.
    return cmath.isfinite(x.sum().item()) or bool(torch.isfinite(x).all())


def finite_scores(scores: Tensor, name: str, call: str = "", what: str = "the reward") -> Tensor:
    """Scores, if they are finite; a NaN is an error that names the reward and the sample."""
    if not all_finite(scores):
        first = int((~torch.isfinite(scores.detach())).nonzero()[0, 0])
        raise FloatingPointError(f"{what} '{name}' is not finite for sample {first}{call}")
    return scores


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
            x = x.view_as(x)
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: _blamed(slope, arrived, name, call)
            )
        scores = finite_scores(reward(x), name, call)
        if scores.requires_grad:
            scores.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: arrived.__setitem__(slice(None), [slope])
            )
        return scores

    return score


def _blamed(slope: Tensor, arrived: list[Tensor], name: str, call: str) -> None:
    """Refuse a gradient that the reward spoilt; what came broken is not the reward's fault."""
    if not all_finite(slope) and all(all_finite(came) for came in arrived):
        finite_scores(slope, name, call, what="the gradient of the reward")
