"""Flow-Map GRPO: policy gradients on few long stochastic jumps.

x_a = X_{t,a}(x_t)                                   the flow map, to an anchor a in (u, 1]
x_u ~ N(rho x_a, (alpha_u^2 - rho^2 alpha_a^2) I)    noised back to u; rho = beta_u / beta_a

If x_t ~ p_t then x_a ~ p_a and x_u ~ p_u: the jumps are random, their marginals are the flow's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bench.api import (
    Flow,
    Interpolant,
    Problem,
    euler,
    expand,
    filled,
    param,
)
from methods.finetuning.grpo import FlowGRPO, PolicyParams, Transition


def carried(flow: Flow, x: Tensor, t: Tensor, to: Tensor, steps: int) -> Tensor:
    """X_{t,to}(x) by Euler steps of equal length; times are (batch,)."""
    step = euler(flow.velocity)
    for j in range(steps):
        x = step(x, t + (to - t) * (j / steps), t + (to - t) * ((j + 1) / steps))
    return x


@dataclass(frozen=True)
class FlowMapGRPOParams(PolicyParams):
    """The few jumps that are the policy."""

    jumps: int = param(4, low=2, high=64, log=True, help="jumps J per training sample")
    inner_steps: int = param(4, low=1, high=100, log=True, help="Euler steps that solve a jump")
    anchor: float = param(
        1.0,
        low=0.05,
        high=1.0,
        help="anchor a - u of a jump from t to u, in units of 1 - u",
    )


class FlowMapGRPO(FlowGRPO):
    """Flow-Map GRPO: Flow-GRPO whose policy is a few anchored jumps of the flow map.

    Li et al. 2026 (arXiv 2607.00535), anchored stochastic flow map composition: jump to an anchor
    by the deterministic map, noise back to the next time, which keeps the marginals of the flow;
    anchor = 1 is the multistep sampler of consistency models.  The map here is that of the current
    flow, solved by inner Euler steps, so that what is fitted is the flow and its ODE is the map.
    The last jump has no density and gets no gradient of its own.  Biased as Flow-GRPO is:
    standardised advantages know no strength, and beta alone says how far it goes.
    Fit per sample, M inner steps, E updates per rollout: (2 J - 1) M flow and one reward forward,
    E (J - 1) M flow forwards and backwards.  Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes by policy gradients on a few stochastic jumps of the flow's own map"
    Params = FlowMapGRPOParams

    def grid(self, problem: Problem) -> list[float]:
        return problem.grid(self.params.jumps)[:-1]

    @property
    def transitions(self) -> int:
        return int(self.params.jumps) - 1

    @property
    def rows(self) -> int:
        return int(self.params.inner_steps)

    @property
    def last_rows(self) -> int:
        return self.rows

    def transition(
        self, flow: Flow, interpolant: Interpolant, x: Tensor, t: Tensor, u: Tensor
    ) -> Transition:
        a = u + self.params.anchor * (1 - u)
        rho, deviation = interpolant.noising(a, u)
        return Transition(expand(rho, x) * carried(flow, x, t, a, self.rows), deviation)

    def finished(self, flow: Flow, x: Tensor, t: float) -> Tensor:
        return carried(flow, x, filled(t, x), filled(1.0, x), self.rows)
