"""Demon: compose the noise of every SDE step from candidates, weighted by what they promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    STEP_VARIANCES,
    LookAheadSearch,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    ancestral_moments,
    candidate_noise,
    expand,
    filled,
    forward,
    look_ahead_param,
    named_param,
    param,
    particle_noise,
    require_finite,
    sampled_in_blocks,
    start_param,
    uniform_grid,
)

UNDECIDED = 1e-6
"""Rewards that differ by less than this share of their size are rounding, not a preference."""


@dataclass(frozen=True)
class DemonParams:
    """The release takes K = 16 noises, 64 steps, adaptive tau and ODE look-aheads of 20 steps."""

    candidates: int = param(16, low=1, high=100_000, log=True, help="noises K per step")
    steps: int = param(20, low=5, high=2000, log=True, help="time steps T")
    adaptive: bool = param(True, help="tau is the deviation of the step's K rewards")
    tau: float = param(1.0, low=1e-6, high=1e6, log=True, help="temperature if not adaptive")
    lookahead: str = look_ahead_param("tweedie")
    draws: int = param(1, low=1, high=4096, log=True, help="draws per look; a point is one")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one draw or path")
    start: float = start_param()
    variance: str = named_param("signal", STEP_VARIANCES, "of a step of the chain")


class Demon(LookAheadSearch):
    """Tanh Demon: the step's noise is a reward-weighted sum of K candidates, on the sphere.

    Yeh et al. 2025 (arXiv 2410.05760): candidates x + s z_k of one step of the base SDE, R_k the
    reward of their look-ahead, z* = sum_k tanh((R_k - mean R) / tau) z_k rescaled to sqrt(d), then
    the step with z*.  The SDE is the memoryless one, in steps that are exact where the denoiser is
    constant (the source: an SDE in EDM time with Heun steps).  tau is the deviation of R_1..K,
    computed anew at every step; the public code overwrites its "adaptive" flag at the first.
    Assumes nothing of the reward; where candidates do not differ, the first is taken: K = 1 is the
    base sampler.  Biased towards high reward, and |z*| has no spread: not the tilted law.
    Cost per sample: T flow + (T - 1) K (flow + reward) with the Tweedie point.
    """

    version = "2"
    summary = "composes the noise of every SDE step from candidates, weighted by their look-ahead"
    Params = DemonParams
    effort = ("candidates", "steps")

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        return forward("flow", p.steps) + self.look.work(spec) * float((p.steps - 1) * p.candidates)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        width = self.params.candidates * self.look.ends
        return sampled_in_blocks(problem, width, self._guided)

    def _guided(self, problem: Problem) -> Tensor:
        p, x = self.params, problem.x0()
        grid = uniform_grid(p.steps, p.start)
        for k in range(p.steps):
            t, u = filled(grid[k], x), filled(grid[k + 1], x)
            denoised = problem.interpolant.denoiser(problem.flow.velocity(x, t), x, t)
            variance = STEP_VARIANCES[p.variance]
            mean, s = ancestral_moments(problem.interpolant, x, denoised, t, u, variance)
            # The last step is a point: no noise is left to choose.
            z = torch.zeros_like(x) if k == p.steps - 1 else self._noise(problem, mean, s, k)
            x = require_finite(mean + expand(s, x) * z, "samples", k)
        return x

    def _noise(self, problem: Problem, mean: Tensor, s: Tensor, k: int) -> Tensor:
        """z* of step k, (rows, *event_shape)."""
        p = self.params
        z = candidate_noise(problem, "step", "candidate-step", k, p.candidates)
        x = mean[:, None] + expand(s, z) * z
        u = uniform_grid(p.steps, p.start)[k + 1]
        noise = particle_noise(problem, k, p.candidates)
        value = self.look(problem, x.flatten(0, 1), u, noise)[0].reshape(z.shape[:2])
        tau = deviation(value) if p.adaptive else torch.full_like(value[:, :1], p.tau)
        problem.log(k, reward=float(value.mean()), tau=float(tau.mean()))
        return composed(z, value, tau)


def deviation(value: Tensor) -> Tensor:
    """Sample deviation of value (rows, K), (rows, 1); zero for a single one."""
    centred = value - value.mean(1, keepdim=True)
    return (centred.square().sum(1, keepdim=True) / max(value.shape[1] - 1, 1)).sqrt()


def composed(z: Tensor, value: Tensor, tau: Tensor) -> Tensor:
    """z* = sum_k tanh((R_k - mean R) / tau) z_k, of norm sqrt(d); z_0 where the R_k are equal.

    z (rows, K, *event_shape), value (rows, K), tau (rows, 1).
    """
    tiny = torch.finfo(z.dtype).tiny
    weight = torch.tanh((value - value.mean(1, keepdim=True)) / tau.clamp(min=tiny))
    total = (expand(weight, z) * z).sum(1)
    norm = total.flatten(1).norm(dim=1)
    equal = deviation(value)[:, 0] <= UNDECIDED * value.abs().amax(1)
    scale = math.sqrt(total[0].numel()) / norm.clamp(min=tiny)
    return torch.where(expand(equal | (norm == 0), total), z[:, 0], expand(scale, total) * total)
