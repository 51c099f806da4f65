"""Demon: compose the noise of every SDE step from candidates, weighted by what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.api import (
    STEP_VARIANCES,
    Growth,
    Interpolant,
    LookAheadSearch,
    Problem,
    ProblemSpec,
    Samples,
    StepVariance,
    Work,
    candidate_noise,
    expand,
    filled,
    forward,
    look_ahead_param,
    named_param,
    param,
    particle_noise,
    require_finite,
    safe,
    sampled_in_blocks,
    start_param,
)

UNDECIDED = 1e-6
"""Rewards that differ by less than this share of their size are rounding, not a preference."""


BARE = STEP_VARIANCES["posterior"]
"""Nothing beside the noise that is exchanged."""


@dataclass(frozen=True)
class Rate:
    """How fast the SDE exchanges noise.

    kept: (sigma_t, sigma_u, beta) -> rho, the correlation of the noise in x_t and in x_u.
    """

    summary: str
    kept: Callable[[Tensor, Tensor, float], Tensor]


RATES: Mapping[str, Rate] = {
    "beta": Rate("beta per unit of sigma, as in the source", lambda s, u, b: (b * (u - s)).exp()),
    "memoryless": Rate("1 / sigma: x1 forgets x0", lambda s, u, _: u / s),
}
"""Rates of the EDM SDE (arXiv 2206.00364, Eq. 6): rho = exp(-integral of the rate over sigma)."""


@dataclass(frozen=True)
class DemonParams:
    """The release: K = 16 noises, 64 steps, adaptive tau, ODE look-aheads of 20 steps, beta = 0.5.

    Its time is sigma = alpha_t / beta_t, and it leaves the rest to the ODE at sigma = 0.11, which
    is t = 0.9.
    """

    candidates: int = param(16, low=1, high=100_000, log=True, help="noises K per step")
    steps: int = param(20, low=1, least=5, high=2000, log=True, help="time steps T")
    adaptive: bool = param(True, help="tau is the deviation of the step's K rewards")
    tau: float = param(1.0, low=1e-6, high=1e6, log=True, help="temperature if not adaptive")
    lookahead: str = look_ahead_param("tweedie")
    draws: int = param(1, low=1, high=4096, log=True, help="draws per look; a point is one")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one draw or path")
    start: float = start_param()
    variance: str = named_param("signal", STEP_VARIANCES, "of a step of the chain")
    noise: str = named_param("beta", RATES, "of a step's exchange of old noise for new")
    beta: float = param(0.5, low=0.0, high=100.0, help="that rate, for noise=beta; 0 is the ODE")
    ode_after: float = param(0.9, low=0.0, high=1.0, help="time after which the ODE finishes")


class Demon(LookAheadSearch):
    """Tanh Demon: the step's noise is a reward-weighted sum of K candidates, on the sphere.

    Yeh et al. 2025 (arXiv 2410.05760): candidates x + s z_k of one step of the base SDE, R_k the
    reward of their look-ahead, z* = sum_k tanh((R_k - mean R) / tau) z_k rescaled to sqrt(d), then
    the step with z*.  The SDE is the source's, of rate beta in EDM time (or the memoryless one), in
    steps that are exact where the denoiser is constant (the source: Heun steps); from `ode_after`
    on nothing is chosen and the ODE finishes.  tau is the deviation of R_1..K, computed anew at
    every step; the public code overwrites its "adaptive" flag at the first.
    Assumes nothing of the reward; where candidates do not differ, the first is taken: K = 1 is the
    base sampler.  Biased towards high reward, and |z*| has no spread: not the tilted law.
    Cost per sample: T flow + T' K (flow + reward) with the Tweedie point, T' steps being chosen.
    """

    version = "3"
    summary = "composes the noise of every SDE step from candidates, weighted by their look-ahead"
    Params = DemonParams
    effort = ("candidates", "steps")
    split: ClassVar[Mapping[str, Growth]] = {
        "candidates": Growth(3, 1 / 3),
        "steps": Growth(15, 2 / 3),
    }

    def chosen(self, grid: Sequence[float]) -> int:
        """Steps T' whose noise is chosen: those before the ODE; the last is a point in any case."""
        return sum(t < self.params.ode_after for t in grid[:-2])

    def work(self, spec: ProblemSpec) -> Work:
        p, grid = self.params, spec.grid(self.params.steps, self.params.start)
        looks = self.look.work(spec, grid[1 : 1 + self.chosen(grid)])
        return forward("flow", spec.calls(grid[:-1])) + looks * float(p.candidates)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        width = self.params.candidates * self.look.ends
        return sampled_in_blocks(problem, width, self._guided)

    def _guided(self, problem: Problem) -> Tensor:
        p, i = self.params, problem.interpolant
        grid = problem.grid(p.steps, p.start)
        x, chosen = problem.started(problem.x0(), grid), self.chosen(grid)
        for k in range(p.steps):
            t, u = filled(grid[k], x), filled(grid[k + 1], x)
            denoised = i.denoiser(problem.flow.velocity(x, t), x, t)
            if k < chosen:
                rho = RATES[p.noise].kept(sigma(i, t), sigma(i, u), p.beta)
                mean, s = exchanged(i, x, denoised, t, u, rho, STEP_VARIANCES[p.variance])
                x = mean + expand(s, x) * self._noise(problem, mean, s, k, grid[k + 1])
            else:
                x = exchanged(i, x, denoised, t, u, torch.ones_like(t), BARE)[0]
            x = require_finite(x, "samples", k)
        return x

    def _noise(self, problem: Problem, mean: Tensor, s: Tensor, k: int, u: float) -> Tensor:
        """z* of step k, which ends at u, (rows, *event_shape)."""
        p = self.params
        z = candidate_noise(problem, "step", "candidate-step", k, p.candidates)
        x = mean[:, None] + expand(s, z) * z
        noise = particle_noise(problem, k, p.candidates)
        value = self.look(problem, x.flatten(0, 1), u, noise)[0].reshape(z.shape[:2])
        tau = deviation(value) if p.adaptive else torch.full_like(value[:, :1], p.tau)
        problem.log(k, reward=float(value.mean()), tau=float(tau.mean()))
        return composed(z, value, tau)


def sigma(i: Interpolant, t: Tensor) -> Tensor:
    """EDM time alpha_t / beta_t, (batch,)."""
    return i.alpha(t) / safe(i.beta(t))


def exchanged(
    i: Interpolant,
    x: Tensor,
    denoised: Tensor,
    t: Tensor,
    u: Tensor,
    rho: Tensor,
    variance: StepVariance,
) -> tuple[Tensor, Tensor]:
    """Mean (batch, *event) and deviation (batch,) of x_u when a share rho of the noise is kept.

    x_u | x_t, x1 = N(beta_u x1 + rho alpha_u e, (1 - rho^2) alpha_u^2 I), e the noise in (x_t, x1):
    `ancestral_moments` for rho = sigma_u / sigma_t, the ODE's Euler step for rho = 1.
    """
    implied = (x - expand(i.beta(t), x) * denoised) / expand(safe(i.alpha(t)), x)
    mean = i.noised(denoised, expand(rho, x) * implied, u)
    slope = i.beta(u) - rho * i.alpha(u) / safe(sigma(i, t))
    noise = i.alpha(u).square() * (1 - rho.square()).clamp(min=0)
    return mean, (noise + slope.square() * variance.spread(i, t)).sqrt()


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
