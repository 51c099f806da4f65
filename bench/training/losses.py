"""Training objectives of a meta flow map: L = L_diagonal + L_consistency (Eq. 33 of 2601.14430).

One objective is one function of a `Draw`, and gives a prediction and a target;
`bench.training.weighting` makes a loss of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from bench.core import glass
from bench.core.integrate import Velocity
from bench.core.paths import Linear, expand
from bench.training.draws import Draw


class MapModel(Protocol):
    """What the objectives need of a map."""

    def velocity(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor: ...
    def jump(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor: ...


Objective = Callable[[MapModel, MapModel, Draw], tuple[Tensor, Tensor]]
"""(model, target model, draw) -> (prediction, target); the target carries no gradient."""


def flow_matching(velocity: Velocity, draw: Draw) -> tuple[Tensor, Tensor]:
    """b_t(x) against x1 - x0 at the context state (the base flow's own objective)."""
    x = Linear().noised(draw.x1, draw.noise, draw.t)
    return velocity(x, draw.t), draw.x1 - draw.noise


def diagonal_from_data(model: MapModel, _: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
    """v_{s,s} against x1 - noise, guided where the draw says so.  Cost: 1 forward."""
    return model.velocity(draw.x_bar, draw.s, draw.s, draw.x, draw.t), draw.data_velocity


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
    """x1 - noise: unbiased for the posterior's velocity at the draw's own state, or guided."""
    return lambda *_: draw.data_velocity


def directional_derivative(
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

    v, dv = directional_derivative(along, (draw.s, draw.x_bar), (torch.ones_like(draw.s), w))
    return w, v, expand(draw.u - draw.s, w) * dv


def lagrangian(inner: Inner) -> Objective:
    """d_u X_{s,u} = b_bar_u(X_{s,u}), with d_u X = v + (u - s) d_u v.

    Cost: 1 JVP with gradient, and 1 forward of the velocity's model at the end of the jump.
    """

    def objective(model: MapModel, target: MapModel, draw: Draw) -> tuple[Tensor, Tensor]:
        def along(u: Tensor) -> Tensor:
            return model.velocity(draw.x_bar, draw.s, u, draw.x, draw.t)

        v, dv = directional_derivative(along, (draw.u,), (torch.ones_like(draw.u),))
        step = expand(draw.u - draw.s, v)
        end = (draw.x_bar + step * v).detach()
        return v + step * dv, inner(target, draw)(end, draw.u)

    return objective
