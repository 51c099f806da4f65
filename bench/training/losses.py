"""Training objectives of a meta flow map: L = L_diagonal + L_consistency (Eq. 33 of 2601.14430).

One objective is one function of a `Draw`.  With x1 ~ data, the context x = (1-t) e_c + t x1 and
the inner state x_bar_s = (1-s) e + s x1 share x1 and nothing else; this is what makes the
regression conditional on the context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bench.core import glass
from bench.core.integrate import Velocity
from bench.core.interpolant import Linear, expand


class MapModel(Protocol):
    """What the objectives need of a map."""

    def velocity(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor: ...
    def jump(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Draw:
    """One training tuple: data x1, context (x, t), inner noise and times, split in [0, 1]."""

    x1: Tensor
    x: Tensor
    t: Tensor
    noise: Tensor
    s: Tensor
    u: Tensor
    split: Tensor

    @property
    def x_bar(self) -> Tensor:
        """The inner state (1-s) noise + s x1."""
        return Linear().noised(self.x1, self.noise, self.s)


Objective = Callable[[MapModel, MapModel, Draw], tuple[Tensor, Tensor]]
"""(model, target model, draw) -> (prediction, target); the target carries no gradient."""


def sample_context_times(n: int, generator: torch.Generator, power: float = 2.0) -> Tensor:
    """t = U^power with probability 0.9 and 0 otherwise; the paper's power is 2.

    The zeros keep the unconditional map; a power above 1 favours early times.
    """
    u = torch.rand(n, generator=generator)
    return u**power * (torch.rand(n, generator=generator) < 0.9)


def sample_inner_times(
    n: int, generator: torch.Generator, full: float = 0.25
) -> tuple[Tensor, Tensor]:
    """A sorted pair of uniforms; a fraction `full` of the pairs is the whole jump (0, 1)."""
    pair = torch.rand(2, n, generator=generator).sort(0).values
    whole = torch.rand(n, generator=generator) < full
    return pair[0] * ~whole, torch.where(whole, torch.ones(n), pair[1])


def make_draw(x1: Tensor, t: Tensor, s: Tensor, u: Tensor, generator: torch.Generator) -> Draw:
    """Noise the data twice, independently: once as context, once as inner state."""
    context_noise = torch.randn(x1.shape, generator=generator)
    noise = torch.randn(x1.shape, generator=generator)
    split = torch.rand(len(x1), generator=generator)
    return Draw(x1, Linear().noised(x1, context_noise, t), t, noise, s, u, split)


def flow_matching(velocity: Velocity, draw: Draw) -> tuple[Tensor, Tensor]:
    """b_t(x) against x1 - x0 at the context state (the base flow's own objective)."""
    x = Linear().noised(draw.x1, draw.noise, draw.t)
    return velocity(x, draw.t), draw.x1 - draw.noise


def diagonal_from_data(model: MapModel, _: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
    """v_{s,s} against x1 - noise.  Cost: 1 forward."""
    return model.velocity(draw.x_bar, draw.s, draw.s, draw.x, draw.t), draw.x1 - draw.noise


def diagonal_distilled(teacher: Velocity) -> Objective:
    """v_{s,s} against the teacher's GLASS velocity: the same minimiser without its variance.

    Cost: 1 forward and 1 teacher forward.
    """

    def objective(model: MapModel, _: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            posterior = glass.posterior_velocity(Linear(), teacher, draw.x, draw.t)
            target = posterior(draw.x_bar, draw.s)
        return model.velocity(draw.x_bar, draw.s, draw.s, draw.x, draw.t), target

    return objective


def semigroup(model: MapModel, target: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
    """v_{s,u} = g v_{s,w} + (1-g) v_{w,u}(X_{s,w}), w = s + g (u-s), g uniform.

    Cost: 1 forward with gradient, 2 without.
    """
    g = draw.split
    w = draw.s + g * (draw.u - draw.s)
    with torch.no_grad():
        first = target.velocity(draw.x_bar, draw.s, w, draw.x, draw.t)
        middle = draw.x_bar + expand(w - draw.s, first) * first
        second = target.velocity(middle, w, draw.u, draw.x, draw.t)
        goal = expand(g, first) * first + expand(1 - g, first) * second
    return model.velocity(draw.x_bar, draw.s, draw.u, draw.x, draw.t), goal


def adaptive(prediction: Tensor, target: Tensor, power: float, floor: float = 0.01) -> Tensor:
    """mean over the batch of sg[(|d|^2 + floor)^-power] |d|^2, |d|^2 summed over data (Eq. 73)."""
    error = (prediction - target).flatten(1).square().sum(-1)
    weight = (error.detach() + floor) ** -power
    return (weight * error).mean()
