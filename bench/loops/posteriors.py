"""Which posterior sampler a steering method uses, by name, with what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.core.contracts import Condition, FlowMap, Need, Noise, PosteriorSampler
from bench.core.map_posterior import MapPosterior
from bench.core.paths import expand
from bench.core.posterior import Gaussian, Glass, Remembered, SDERollout, Tweedie, denoised
from bench.core.problem import Problem
from bench.core.units import Role
from bench.core.work import Work, backward, forward

Kind = Literal["tweedie", "gaussian", "glass", "glass-heun", "sde", "map", "exact", "jump"]
Width = Literal["signal", "noise"]

POINTS = ("tweedie", "jump")
"""Kinds whose draws are all the same point, which is computed once."""


class NoiseGaussian(Gaussian):
    """N(D_t(x), (spread alpha_t)^2 I): the noise coefficient itself as deviation.

    TFG's sqrt(1 - alpha-bar) read off the interpolant as it is.  Where the interpolant preserves
    the variance it is the `Gaussian`'s alpha / sqrt(alpha^2 + beta^2); on the linear one less.
    """

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """D_t(x) + spread alpha_t e."""
        point, i = denoised(self.flow, x, t, condition), self.flow.interpolant
        factor = expand((i.alpha(t) ** 2 + i.beta(t) ** 2).sqrt(), x)
        return point + factor * (super().draw(x, t, n, noise, condition) - point)


class Jump:
    """The point mass at X_{t,1}(x): where the deterministic flow takes x, in `steps` jumps.

    What FMTT and FMRG look at instead of the Tweedie point; not the posterior, but the flow's own
    guess of one of its draws.
    """

    pathwise = True

    def __init__(self, flow_map: FlowMap, steps: int = 1) -> None:
        self.flow_map, self.steps = flow_map, steps
        self.rows_per_draw = steps

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """n copies of the end of the trajectory."""
        end = x
        for k in range(self.steps):
            s, u = (t + (1 - t) * (j / self.steps) for j in (k, k + 1))
            end = self.flow_map.jump(end, s, u, condition)
        return end.expand(n, *end.shape)


class Rigid:
    """Another sampler's draws, moved along with x: dx1/dx is taken for the identity.

    Gradients then skip the networks behind the draw, at no backward rows (FMRG-E, MPGD).
    """

    pathwise = True

    def __init__(self, sampler: PosteriorSampler) -> None:
        self.sampler, self.rows_per_draw = sampler, sampler.rows_per_draw

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event_shape)."""
        with torch.no_grad():
            x1 = self.sampler.draw(x, t, n, noise, condition)
        return x1 + (x - x.detach())


@dataclass(frozen=True)
class PosteriorChoice:
    """A posterior sampler by name.

    inner_steps: Euler or Heun steps of GLASS, steps of an SDE rollout, or jumps of the map.
    spread, width: deviation of the Gaussian.  jacobian: whether gradients pass through the
    networks of a draw.
    """

    kind: Kind
    inner_steps: int = 1
    spread: float = 1.0
    width: Width = "signal"
    jacobian: bool = True

    @property
    def role(self) -> Role:
        """Whose rows a draw spends."""
        named: dict[Kind, Role] = {"map": "map", "jump": "map", "exact": "oracle"}
        return named.get(self.kind, "flow")

    @property
    def rows(self) -> int:
        """Rows per draw beyond the velocity at (x, t), which the step has anyway."""
        if self.kind in ("tweedie", "gaussian"):
            return 0
        steps = self.inner_steps
        own = {"map": steps, "jump": steps, "exact": 1, "glass-heun": 2 * steps - 1}
        return own.get(self.kind, steps - 1)

    @property
    def differentiates_flow(self) -> bool:
        """Whether a pathwise gradient passes through the velocity at (x, t)."""
        return self.jacobian and self.role == "flow"

    def needs(self, gradient: bool) -> set[Need]:
        """What the problem must offer."""
        if self.role == "map":
            return {Need.FLOW_MAP}
        if self.kind == "exact":
            # A categorical draw has no derivative in x.
            return {Need.PATHWISE_POSTERIOR} if gradient else {Need.POSTERIOR}
        return set()

    def work(self, draws: int, gradient: bool) -> Work:
        """Rows of one steering step's draws; the shared velocity's forward is the step's own."""
        rows = self.rows * (1 if self.kind in POINTS else draws)
        work = forward(self.role, rows)
        if not (gradient and self.jacobian):
            return work
        work = work + backward(self.role, rows)
        return work + backward("flow") if self.differentiates_flow else work

    def build(self, problem: Problem, flow: Remembered) -> PosteriorSampler:
        """The sampler, over metered callables."""
        sampler = self._sampler(problem, flow)
        return sampler if self.jacobian else Rigid(sampler)

    def _sampler(self, problem: Problem, flow: Remembered) -> PosteriorSampler:
        if self.role == "map":
            assert problem.flow_map is not None
            kind = MapPosterior if self.kind == "map" else Jump
            return kind(problem.flow_map, self.inner_steps)
        if self.kind == "exact":
            assert problem.posterior is not None
            return problem.posterior
        if self.kind in ("glass", "glass-heun"):
            return Glass(flow, self.inner_steps, "euler" if self.kind == "glass" else "heun")
        if self.kind == "sde":
            return SDERollout(flow, self.inner_steps)
        if self.kind == "tweedie":
            return Tweedie(flow)
        return (Gaussian if self.width == "signal" else NoiseGaussian)(flow, self.spread)
