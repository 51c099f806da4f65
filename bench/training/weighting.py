"""How the squared errors of a batch are weighted, and by what the noise of a target demands."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.paths import expand
from bench.training.draws import Draw
from bench.training.losses import MapModel, directional_derivative

SPREAD_FLOOR = 0.05
"""Floor of the deviation in `data_variance`: later contexts gain no further weight."""


def adaptively_weighted(
    prediction: Tensor, target: Tensor, power: float, floor: float = 0.01
) -> Tensor:
    """mean over the batch of sg[(|d|^2 + floor)^-power] |d|^2, |d|^2 summed over data (Eq. 73)."""
    error = (prediction - target).flatten(1).square().sum(-1)
    weight = (error.detach() + floor) ** -power
    return (weight * error).mean()


def standardised(prediction: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """mean over the batch of |d|^2 / variance, for targets that are random given the prediction.

    Weights that depend on the residual, as in `adaptively_weighted`, would move the minimiser from
    the target's conditional mean towards its median; `variance` (batch,) may depend on the times,
    the context and the inner state, but not on what is random in the target.
    """
    error = (prediction - target).flatten(1).square().sum(-1)
    return (error / variance).mean()


def data_variance(_: MapModel, draw: Draw) -> Tensor:
    """Var(x1 - noise | context, inner state) per dimension, for data N(0, I), (batch,).

    tau^2 / ((1-s)^2 + s^2 tau^2) with tau^2 = (1-t)^2 / ((1-t)^2 + t^2), floored.
    """
    t, s = draw.t, draw.s
    tau2 = (1 - t) ** 2 / ((1 - t) ** 2 + t**2)
    return (tau2 / ((1 - s) ** 2 + s**2 * tau2)).clamp(min=SPREAD_FLOOR**2)


@torch.no_grad()
def mean_flow_variance(model: MapModel, draw: Draw) -> Tensor:
    """`data_variance` times 1 + |A z|^2 / |z|^2, A = I + (u - s) grad v_{s,u}, (batch,).

    The noise of w reaches the mean-flow target through A, the map's Jacobian, which is large where
    the posterior's modes part: without this a few such rows carry most of the loss.  z is another
    row's noise, so that the weight knows nothing of this row's.  Cost: 1 JVP without gradient.
    """
    z = draw.noise.roll(1, 0)

    def along(x_bar: Tensor) -> Tensor:
        return model.velocity(x_bar, draw.s, draw.u, draw.x, draw.t)

    _, dv = directional_derivative(along, (draw.x_bar,), (z,))
    moved = (z + expand(draw.u - draw.s, z) * dv).flatten(1).square().sum(-1)
    return data_variance(model, draw) * (1 + moved / z.flatten(1).square().sum(-1))
