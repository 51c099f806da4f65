"""The posterior sampler that a meta flow map is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from bench.core.contracts import Condition, Noise
from bench.core.integrate import integrate, uniform_grid
from bench.core.paths import expand
from bench.core.posterior import draws_of, repeated


class MapVelocity(Protocol):
    """v_{s,u}(x_bar; t, x)."""

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor: ...


class MapPosterior:
    """X_{0,1}(e; t, x) in `steps` jumps over a uniform inner grid; one jump is the usual draw."""

    pathwise = True

    def __init__(self, flow_map: MapVelocity, steps: int = 1) -> None:
        self.flow_map, self.steps = flow_map, steps
        self.rows_per_draw = steps

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """n independent draws, (n, batch, *event_shape)."""
        context, times = repeated(x, n), repeated(t, n)

        def jump(x_bar: Tensor, s: Tensor, u: Tensor) -> Tensor:
            v = self.flow_map.velocity(x_bar, s, u, context, times, condition)
            return x_bar + expand(u - s, x_bar) * v

        start = draws_of(noise, "posterior", n, x.shape[1:]).reshape(context.shape)
        return integrate(jump, start, uniform_grid(self.steps)).reshape(n, *x.shape)
