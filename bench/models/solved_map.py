"""The meta flow map of a flow whose velocity is known: every jump is solved, nothing is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core import glass
from bench.core.integrate import Velocity, heun, integrate
from bench.core.paths import expand
from bench.core.protocols import Condition, Flow


def closing(steps: int) -> list[float]:
    """steps + 1 parts of a jump, denser to its end, where the law that is carried is narrowest."""
    return [1 - (1 - k / steps) ** 2 for k in range(steps + 1)]


def average_velocity(velocity: Velocity, x: Tensor, s: Tensor, u: Tensor, steps: int) -> Tensor:
    """The mean of `velocity` along its own path from (x, s) to u, (batch, *event).

    Solved for the displacement d of x + (u - s) d, so that u = s gives the velocity itself and
    nothing is divided by u - s.  s and u are (batch,).
    """
    span = expand(u - s, x)

    def rate(d: Tensor, part: Tensor) -> Tensor:
        return velocity(x + span * d, s + part * (u - s))

    return integrate(heun(rate), torch.zeros_like(x), closing(steps))


class IntegratedMap:
    """A meta flow map by Heun's method, with an error of order steps^-2 and no distillation error.

    `jump` follows the base flow; `velocity` follows the flow of the posterior, which GLASS gives in
    closed form (arXiv 2601.14430, Eq. 32).  Either evaluates the base velocity
    2 `steps` times.  The ledger counts one row of the map, as for a learned one that were perfect;
    FLOPs and seconds count what the evaluations take.
    """

    def __init__(self, flow: Flow, steps: int) -> None:
        self.flow, self.steps = flow, steps

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """X_{s,u}(x) of the base flow."""
        return x + expand(u - s, x) * average_velocity(self._base(condition), x, s, u, self.steps)

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x)."""
        base = self._base(condition)
        inner = glass.posterior_velocity(self.flow.interpolant, base, x, t)
        return average_velocity(inner, x_bar, s, u, self.steps)

    def _base(self, condition: Condition) -> Velocity:
        return lambda x, t: self.flow.velocity(x, t, condition)
