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
from bench.core.paths import Linear, expand


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


SPREAD_FLOOR = 0.05
"""Floor of the deviation in `data_variance`: later contexts gain no further weight."""

Objective = Callable[[MapModel, MapModel, Draw], tuple[Tensor, Tensor]]
"""(model, target model, draw) -> (prediction, target); the target carries no gradient."""


def sample_context_times(
    n: int, generator: torch.Generator, power: float = 2.0, zeros: float = 0.1
) -> Tensor:
    """t = U^power with probability 1 - zeros and 0 otherwise; the paper's power is 2.

    The zeros keep the unconditional map; a power above 1 favours early times.
    """
    u = torch.rand(n, generator=generator)
    return u**power * (torch.rand(n, generator=generator) < 1 - zeros)


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


def make_draws(
    x1: Tensor,
    power: float,
    generator: torch.Generator,
    zeros: float = 0.1,
    full: float = 0.25,
) -> tuple[Draw, Draw]:
    """Draws on and off the diagonal at shared data and context times U^power.

    zeros, full: see `sample_context_times` and `sample_inner_times`.
    """
    batch = len(x1)
    t = sample_context_times(batch, generator, power, zeros)
    on = torch.rand(batch, generator=generator)
    diagonal = make_draw(x1, t, on, on, generator)
    s, u = sample_inner_times(batch, generator, full)
    return diagonal, make_draw(x1, t, s, u, generator)


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


def endpoints(model: MapModel, _: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
    """v_{s,u} against (x_1 - x_bar_s) / (1 - s), for draws along a solved trajectory with u = 1.

    x1 is then where the teacher's flow takes x_bar, and not data.  Cost: 1 forward.
    """
    goal = (draw.x1 - draw.x_bar) / expand(1 - draw.s, draw.x1)
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

    The right side is a target without gradient, so w may be random: with `data_velocity` this is
    the mean-flow objective, unbiased because the target is linear in w.  Bootstrapping through a
    derivative is not a contraction, and can leave a residual that no longer falls.
    Cost: 1 JVP with gradient, and 1 forward of w's model.
    """

    def objective(model: MapModel, target: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
        w, v, step = _transported(inner, model, target, draw)
        return v, (w + step).detach()

    return objective


def eulerian_residual(inner: Inner) -> Objective:
    """The same equation as v_{s,u} - (u - s) (d_s + w . grad) v_{s,u} = w, differentiated in full.

    Zero only at the exact map, and descends on its own residual; w must not be random, or the
    product of its noise with the derivative would be fitted too.
    Cost: 1 JVP whose primal and tangent are both differentiated, and 1 forward of w's model.
    """

    def objective(model: MapModel, target: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
        w, v, step = _transported(inner, model, target, draw)
        return v - step, w

    return objective


def _transported(
    inner: Inner, model: MapModel, target: MapModel, draw: Draw
) -> tuple[Tensor, Tensor, Tensor]:
    """w at the draw, v_{s,u}, and (u - s) times the derivative of v along (1, w) in (s, x_bar)."""
    w = inner(target, draw)(draw.x_bar, draw.s)

    def along(s: Tensor, x_bar: Tensor) -> Tensor:
        return model.velocity(x_bar, s, draw.u, draw.x, draw.t)

    v, dv = _derivative(along, (draw.s, draw.x_bar), (torch.ones_like(draw.s), w))
    return w, v, expand(draw.u - draw.s, w) * dv


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

    _, dv = _derivative(along, (draw.x_bar,), (z,))
    moved = (z + expand(draw.u - draw.s, z) * dv).flatten(1).square().sum(-1)
    return data_variance(model, draw) * (1 + moved / z.flatten(1).square().sum(-1))
