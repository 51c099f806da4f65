"""Zero-order search over the initial noise: by neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    Problem,
    ProblemSpec,
    Samples,
    Work,
    candidates_at,
    param,
    reward_work,
    sampled_in_blocks,
)
from methods.search.generator import OverNoise, generator_param


@dataclass(frozen=True)
class ZeroOrderParams:
    """Four neighbours at cosine 0.95, as in the public re-implementation.

    One jump of the map is the generator: at equal compute it beats 20 steps of the ODE, which are
    `generator=ode,steps=20`.
    """

    iterations: int = param(4, low=0, high=1_000_000, log=False, help="rounds I of the search")
    neighbours: int = param(4, low=1, high=100_000, log=True, help="neighbours N per round")
    steps: int = param(1, low=1, high=1000, log=True, help="steps K of the generator")
    similarity: float = param(0.95, low=0.0, high=1.0, help="expected cosine to the pivot")
    generator: str = generator_param("map")


class ZeroOrder(OverNoise):
    """Zero-order search: a pivot noise moves to the best of its neighbours, round after round.

    Ma et al. 2025 (arXiv 2501.09732), zero-order search: y_j = c e + sqrt(1 - c^2) z_j around the
    pivot e, the best of e and y_1..N is the next pivot.  These neighbours keep N(0, I), c is their
    correlation; the public re-implementation also fixes |y| = |e|, which is the same in high
    dimension and would leave two neighbours in the plane.  c = 0 is Best-of-(1 + N I).
    Assumes nothing of the reward, only that good noises are neighbours.  Biased towards high
    reward, ever farther from the base model: not the tilted law.
    Cost per sample: (1 + N I) (K + 1) paper-nfe.
    """

    summary = "moves the initial noise to the best of its neighbours, round after round"
    Params = ZeroOrderParams
    effort = ("iterations", "steps")

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        once = self.generator.work(spec, p.steps) + reward_work(spec, 1)
        work: Work = once * (1.0 + p.neighbours * p.iterations)
        return work

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        return sampled_in_blocks(problem, self.params.neighbours, self._searched)

    def _searched(self, problem: Problem) -> Tensor:
        p = self.params
        generate = self.generator.build(problem, p.steps)
        e = problem.x0()
        x = generate(e)
        r = problem.reward(x)
        for i in range(p.iterations):
            z = problem.noise("neighbours", i, (p.neighbours, *problem.event_shape))
            y = p.similarity * e[:, None] + math.sqrt(1 - p.similarity**2) * z
            flat = generate(y.flatten(0, 1))
            scores = torch.cat([r[:, None], problem.reward(flat).reshape(y.shape[:2])], 1)
            winner = scores.argmax(1, keepdim=True)
            e = candidates_at(torch.cat([e[:, None], y], 1), winner)[:, 0]
            x = candidates_at(torch.cat([x[:, None], flat.reshape(y.shape)], 1), winner)[:, 0]
            r = scores.gather(1, winner)[:, 0]
            problem.log(i, reward=float(r.mean()))
        return x
