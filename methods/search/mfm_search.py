"""MFM-Search: several particles follow the best of their posterior draws, greedily."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.api import (
    Method,
    Need,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Remembered,
    Samples,
    Timing,
    Work,
    best_candidate,
    candidate_noise,
    candidates_at,
    expand,
    filled,
    forward,
    param,
    particle_noise,
    require_finite,
    reward_work,
    safe,
    sampled_in_blocks,
    sampler_param,
)


@dataclass(frozen=True)
class SearchParams:
    """The release's defaults but for the steps, of which it takes 250."""

    particles: int = param(8, low=1, high=100_000, log=True, help="particles M per output")
    draws: int = param(4, low=1, high=4096, log=True, help="posterior draws N per particle")
    steps: int = param(20, low=1, least=5, high=2000, log=True, help="time steps K")
    follow: Literal["best", "own"] = param(
        "best", help="best: all particles follow the best draw of all; own: each its own best"
    )
    transition: Literal["stochastic", "deterministic"] = param(
        "stochastic", help="fresh noise, or the noise implied by the particle and its draw"
    )
    power: float = param(2.5, low=0.1, high=10.0, help="times are (even spacing)^power")
    start: float = param(0.01, low=1e-4, high=0.5, help="first time before the power is taken")
    posterior: str = sampler_param("map")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")


class MFMSearch(Method[SearchParams]):
    """MFM-Search: draw posteriors, keep the best draw, noise it again to the next time.

    arXiv 2601.14430, Algorithm 4: at t_k every particle makes N draws X of p(x1 | x_t); the one of
    highest reward X* goes to x = beta_u X* + alpha_u e, with e fresh (stochastic) or the noise
    (x - beta_t X*) / alpha_t of the pair (x, X*) (deterministic; then particles that follow one
    draw are one).  The last step lands on X*, whose reward is known: the best particle is returned.
    Assumes nothing of the reward.  It maximises: not a sampler of the tilted law, strength and
    other increasing functions of the reward change nothing.  Outputs have noises of their own and
    are independent; the public release lets consecutive outputs start from the same noises.
    Cost per sample: 2 M N K paper-nfe with the map; other posteriors cost their rows instead.
    """

    summary = "particles that follow the best of their posterior draws from a meta flow map"
    Params = SearchParams
    effort = ("particles", "steps")

    @property
    def choice(self) -> PosteriorChoice:
        """The posterior sampler."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    @property
    def draws(self) -> int:
        """Posterior draws per particle; a point is one."""
        return self.choice.distinct(self.params.draws)

    @property
    def needs(self) -> frozenset[Need]:
        return self.choice.needs(gradient=False)

    def grid(self, timing: Timing) -> list[float]:
        """K + 1 times: the flow's own, else from start^power to 1."""
        found = timing.grid(self.params.steps, self.params.start)
        return found if timing.scheduled else [s**self.params.power for s in found]

    def work(self, spec: ProblemSpec) -> Work:
        p, n, times = self.params, self.draws, self.grid(spec.timing)[:-1]
        calls = spec.calls(times) if self.choice.differentiates_flow else 0.0
        drawn = forward("flow", calls) + self.choice.along(spec, times, n, gradient=False)
        return (drawn + reward_work(spec, n) * float(p.steps)) * float(p.particles)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        return sampled_in_blocks(problem, self.params.particles * self.draws, self._found)

    def _found(self, problem: Problem) -> Tensor:
        """The best final particle of every row, (rows, *event_shape)."""
        grid = self.grid(problem.timing)
        x = problem.started(starts(problem, self.params.particles), grid)
        for k in range(self.params.steps):
            origin, x1, r = self._best_draws(problem, x, grid[k], k)
            problem.log(k, reward=float(r.mean()))
            e = self._noise(problem, origin, x1, grid[k], k)
            flat = x1.flatten(0, 1)
            moved = problem.interpolant.noised(flat, e.flatten(0, 1), filled(grid[k + 1], flat))
            x = require_finite(moved, "particles", k).reshape(x.shape)
        return best_candidate(x, r)

    def _best_draws(
        self, problem: Problem, x: Tensor, t: float, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each particle follows: where the draw came from, the draw and its reward."""
        (rows, m), n = x.shape[:2], self.draws
        flat = x.flatten(0, 1)
        posterior = self.choice.build(problem, Remembered(problem.flow))
        draws = posterior.draw(flat, filled(t, flat), n, particle_noise(problem, k, m))
        r = problem.reward(draws.flatten(0, 1)).reshape(n, rows, m)
        # Draws of one output side by side, particle by particle.
        x1 = draws.reshape(n, *x.shape).movedim(0, 2).flatten(1, 2)
        r = r.movedim(0, 2).flatten(1, 2)
        if self.params.follow == "best":
            index = r.argmax(1, keepdim=True).expand(rows, m)
        else:
            own = torch.arange(m, device=r.device)
            index = own * n + r.reshape(rows, m, n).argmax(2)
        return candidates_at(x, index // n), candidates_at(x1, index), r.gather(1, index)

    def _noise(self, problem: Problem, origin: Tensor, x1: Tensor, t: float, k: int) -> Tensor:
        """The noise with which the particles go on, (rows, M, *event_shape)."""
        if self.params.transition == "stochastic":
            return candidate_noise(problem, "step", "particle-step", k, x1.shape[1])
        time, interpolant = filled(t, x1), problem.interpolant
        alpha, beta = expand(interpolant.alpha(time), x1), expand(interpolant.beta(time), x1)
        return (origin - beta * x1) / safe(alpha)


def starts(problem: Problem, particles: int) -> Tensor:
    """Initial particles (rows, M, *event_shape): no two outputs share one."""
    return candidate_noise(problem, "x0", "particles", 0, particles)
