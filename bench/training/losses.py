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


Inner = Callable[[MapModel, Draw], Callable[[Tensor, Tensor], Tensor]]
"""(target model, draw) -> (x_bar, s) -> the velocity of the posterior flow there, no gradient."""


def self_velocity(model: MapModel, draw: Draw) -> Callable[[Tensor, Tensor], Tensor]:
    """The map's own diagonal v_{s,s}."""

    def velocity(x_bar: Tensor, s: Tensor) -> Tensor:
        with torch.no_grad():
            return model.velocity(x_bar, s, s, draw.x, draw.t)

    return velocity


def teacher_velocity(teacher: Velocity) -> Inner:
    """The teacher's closed form, one teacher forward per call."""

    def at(_: MapModel, draw: Draw) -> Callable[[Tensor, Tensor], Tensor]:
        posterior = glass.posterior_velocity(Linear(), teacher, draw.x, draw.t)

        def velocity(x_bar: Tensor, s: Tensor) -> Tensor:
            with torch.no_grad():
                return posterior(x_bar, s)

        return velocity

    return at


def data_velocity(_: MapModel, draw: Draw) -> Callable[[Tensor, Tensor], Tensor]:
    """x1 - noise: unbiased for the posterior's velocity at the draw's own state."""
    return lambda *_: draw.x1 - draw.noise


def _derivative(
    fn: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """fn(at) and its directional derivative, both differentiable in fn's parameters."""
    value, derivative = torch.func.jvp(fn, at, along)[:2]
    return value, derivative


def eulerian(inner: Inner) -> Objective:
    """v_{s,u} = w + (u - s) (d_s + w . grad) v_{s,u}, from d_s X + w . grad X = 0.

    With `data_velocity` this is the mean-flow objective, unbiased because the target is linear in
    w.  Cost: 1 JVP with gradient, and 1 forward of w's model.
    """

    def objective(model: MapModel, target: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
        w = inner(target, draw)(draw.x_bar, draw.s)

        def along(s: Tensor, x_bar: Tensor) -> Tensor:
            return model.velocity(x_bar, s, draw.u, draw.x, draw.t)

        v, dv = _derivative(along, (draw.s, draw.x_bar), (torch.ones_like(draw.s), w))
        return v, (w + expand(draw.u - draw.s, w) * dv).detach()

    return objective


def lagrangian(inner: Inner) -> Objective:
    """d_u X_{s,u} = b_bar_u(X_{s,u}), with d_u X = v + (u - s) d_u v.

    Cost: 1 JVP with gradient, and 1 forward of the velocity's model at the end of the jump.
    """

    def objective(model: MapModel, target: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
        def along(u: Tensor) -> Tensor:
            return model.velocity(draw.x_bar, draw.s, u, draw.x, draw.t)

        v, dv = _derivative(along, (draw.u,), (torch.ones_like(draw.u),))
        step = expand(draw.u - draw.s, v)
        end = (draw.x_bar + step * v).detach()
        return v + step * dv, inner(target, draw)(end, draw.u)

    return objective


def adaptive(prediction: Tensor, target: Tensor, power: float, floor: float = 0.01) -> Tensor:
    """mean over the batch of sg[(|d|^2 + floor)^-power] |d|^2, |d|^2 summed over data (Eq. 73)."""
    error = (prediction - target).flatten(1).square().sum(-1)
    weight = (error.detach() + floor) ** -power
    return (weight * error).mean()
