"""Importance resampling: of N draws of the base model, one in proportion to e^r."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from bench.api import (
    Problem,
    ProblemSpec,
    Samples,
    Work,
    at_quantiles,
    candidate_noise,
    candidates_at,
    param,
    reward_work,
    row_blocks,
    uniforms,
)
from methods.search.generator import OverNoise, generator_param


@dataclass(frozen=True)
class SIRParams:
    """How many draws, and how each is made."""

    candidates: int = param(16, low=1, high=1_000_000, log=True, help="draws N per output")
    steps: int = param(1, low=1, high=1000, log=True, help="steps K of the generator")
    generator: str = generator_param("map")


class SIR(OverNoise):
    """Importance resampling: N draws of the base model, one chosen in proportion to e^r.

    Rubin 1987 (SIR), on one-jump draws of the map, few jumps, or the ODE.  Assumes nothing of the
    reward and tends to the tilted law as N grows, with an unbiased estimate of Z; at finite N
    biased towards the base model, the more the larger Var(e^r): N has to exceed e^KL.  Its error is
    otherwise that of the generator.  It is Best-of-N with a draw in the place of the arg-max.
    Cost per sample: N (K + 1) paper-nfe.
    """

    summary = "draws N samples of the base model and keeps one in proportion to e^r"
    standing = "baseline"
    colour = "#117733"
    Params = SIRParams
    effort = ("candidates", "steps")

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        one = self.generator.work(spec, p.steps) + reward_work(spec, 1)
        work: Work = one * float(p.candidates)
        return work

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        blocks = row_blocks(problem.rows, self.params.candidates)
        return Samples.joined([self._chosen(problem.for_rows(rows)) for rows in blocks])

    def _chosen(self, problem: Problem) -> Samples:
        p = self.params
        x0 = candidate_noise(problem, "x0", "candidates", 0, p.candidates)
        x = self.generator.build(problem, p.steps)(x0.flatten(0, 1)).reshape(x0.shape)
        r = problem.reward(x.flatten(0, 1)).reshape(x.shape[:2]).double()
        index = at_quantiles(r, uniforms(problem, "draw", 0, 1))
        ess = float((1 / r.softmax(1).square().sum(1)).mean())
        log_z = float(r.logsumexp((0, 1))) - math.log(r.numel())
        return Samples(candidates_at(x, index)[:, 0], log_z=log_z, info={"ess": ess})
