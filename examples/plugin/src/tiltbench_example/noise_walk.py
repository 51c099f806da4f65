"""A Metropolis walk on the initial noise of the flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    Method,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    euler,
    forward,
    integrate,
    param,
)


@dataclass(frozen=True)
class NoiseWalkParams:
    """How long to walk, how far at a time, and how finely the flow is integrated."""

    moves: int = param(4, low=1, high=10_000, log=True, help="proposals per sample")
    steps: int = param(20, low=10, high=1000, log=True, help="Euler steps per proposal")
    stride: float = param(0.5, low=0.01, high=1.0, help="share of fresh noise in a proposal")


class NoiseWalk(Method[NoiseWalkParams]):
    """Metropolis walk on the initial noise: needs no gradient, tends to the tilted law.

    The proposal sqrt(1 - s^2) x0 + s e leaves N(0, I) invariant (pCN, Cotter et al. 2013, arXiv
    1202.0709), so accepting with probability min(1, e^(r' - r)) leaves the tilted law invariant.
    Biased by the finite walk, which starts at the base model.
    Cost per sample: (moves + 1) (steps + 1) paper-nfe.
    """

    Params = NoiseWalkParams
    effort = ("moves", "steps")

    def work(self, spec: ProblemSpec) -> Work:
        calls = spec.calls(spec.grid(self.params.steps)[:-1])
        return (forward("flow", calls) + forward("reward")) * (self.params.moves + 1)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        s, accepted = self.params.stride, 0.0
        x0 = problem.x0()
        x, r = self._scored(problem, x0)
        for k in range(self.params.moves):
            fresh = problem.noise("proposal", k, problem.event_shape)
            proposed = (1 - s**2) ** 0.5 * x0 + s * fresh
            x_new, r_new = self._scored(problem, proposed)
            u = torch.special.ndtr(problem.noise("accept", k, ()))
            accept = u.log() < r_new - r
            x0, x = _where(accept, proposed, x0), _where(accept, x_new, x)
            r = torch.where(accept, r_new, r)
            accepted += float(accept.float().mean()) / self.params.moves
        return Samples(x, info={"acceptance": accepted})

    def _scored(self, problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sample that the flow makes of the noise x, and its reward."""
        grid = problem.grid(self.params.steps)
        x = integrate(euler(problem.flow.velocity), problem.started(x, grid), grid)
        return x, problem.reward(x)


def _where(chosen: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of a where `chosen`, of b elsewhere."""
    return torch.where(chosen.reshape(-1, *[1] * (a.dim() - 1)), a, b)
