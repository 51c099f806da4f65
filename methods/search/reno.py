"""ReNO: search over the initial noise by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    backward,
    expand,
    param,
    require_finite,
    reward_work,
    sampled_in_blocks,
)
from methods.search.generator import OverNoise, generator_param

DIMENSION = 16_384
"""Of the noise that the release's rate and weight are meant for: 4 x 64 x 64, of norm 128."""


@dataclass(frozen=True)
class ReNOParams:
    """The release's defaults: one step of a distilled model, 50 evaluations.

    `rate` and `regularisation` are those at d = 16,384; elsewhere they follow the norm of the
    noise, sqrt(d): rate sqrt(d / 16384) and lambda sqrt(16384 / d), the clip being kept.
    """

    iterations: int = param(50, low=1, high=100_000, log=True, help="noises I that are evaluated")
    steps: int = param(1, low=1, high=1000, log=True, help="steps K of the generator")
    rate: float = param(5.0, low=1e-3, high=1e3, log=True, help="learning rate of SGD at d = 16384")
    momentum: float = param(0.9, low=0.0, high=0.999, help="Nesterov momentum")
    clip: float = param(0.1, low=1e-6, high=1e6, log=True, help="largest gradient norm per sample")
    regularisation: float = param(
        0.01, low=0.0, high=100.0, help="weight lambda of the noise's log prior at d = 16384"
    )
    generator: str = generator_param("map")


class ReNO(OverNoise):
    """ReNO: gradient ascent on the initial noise of a few-step generator.

    Eyring et al. 2024 (arXiv 2406.04312): maximise r(G(e)) - lambda (|e|^2 / 2 - (d - 1) log |e|),
    the second term being the log density of |e| under N(0, I); SGD with Nesterov momentum on
    gradients clipped per sample; returns the iterate of highest reward, without the penalty.
    Lengths are in units of |e| = sqrt(d), so that every dimension sees the release's path: at
    d = 16,384 a first step is up to 0.95 long and |e| = 128 is held back where |grad r| of the
    clip's size meets 2 lambda times the excess.
    Assumes a differentiable reward and generator.  Biased towards high reward, and away from
    the base model where lambda is small: not the tilted law.  The last noise needs no gradient.
    Cost per sample: (2 I - 1) (K + 1) paper-nfe, I forwards and I - 1 backwards of G and reward.
    """

    version = "2"
    summary = "gradient ascent on the initial noise of a few-step generator"
    Params = ReNOParams
    effort = ("iterations", "steps")

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {Need.REWARD_GRADIENT}

    def work(self, spec: ProblemSpec) -> Work:
        moves, once = self.params.iterations - 1, self.generator.work(spec, self.params.steps)
        back = backward(self.generator.role, self.generator.rows(spec, self.params.steps))
        last = once + reward_work(spec, 1)
        move = once + back + reward_work(spec, 1, gradient=True)
        return last + move * float(moves)

    @torch.enable_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        return sampled_in_blocks(problem, self.params.steps, self._optimised)

    def _optimised(self, problem: Problem) -> Tensor:
        p = self.params
        generate = self.generator.build(problem, p.steps)
        e = problem.x0().requires_grad_()
        rate, weight = scaled(p, e[0].numel())
        sgd = torch.optim.SGD([e], lr=rate, momentum=p.momentum, nesterov=p.momentum > 0)
        x, top = torch.empty(0), torch.empty(0)
        for i in range(p.iterations):
            moves = i < p.iterations - 1
            with torch.set_grad_enabled(moves):
                found = generate(e)
                r = problem.reward(found)
            x, top = kept(x, top, found.detach(), r.detach()) if i else (found.detach(), r.detach())
            problem.log(i, reward=float(top.mean()))
            if moves:
                objective = r + weight * log_norm_density(e)
                (ascent,) = torch.autograd.grad(objective.sum(), e)
                e.grad = -clipped(require_finite(ascent, "gradients", i), p.clip)
                sgd.step()
        return x


def scaled(p: ReNOParams, dimension: int) -> tuple[float, float]:
    """Rate and weight at this dimension: x -> sqrt(d) y makes the path of y the same for all d."""
    length = math.sqrt(dimension / DIMENSION)
    return p.rate * length, p.regularisation / length


def kept(x: Tensor, top: Tensor, found: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row the sample of higher reward, and that reward."""
    better = r > top
    return torch.where(expand(better, x), found, x), torch.where(better, r, top)


def log_norm_density(e: Tensor) -> Tensor:
    """(d - 1) log |e| - |e|^2 / 2: the log density of |e| for e ~ N(0, I_d), up to a constant."""
    flat = e.flatten(1)
    norm: Tensor = flat.norm(dim=1).clamp(min=torch.finfo(e.dtype).tiny)
    return (flat.shape[1] - 1) * norm.log() - 0.5 * norm.square()


def clipped(g: Tensor, most: float) -> Tensor:
    """g with the norm of every row at most `most`."""
    norm = g.flatten(1).norm(dim=1).clamp(min=torch.finfo(g.dtype).tiny)
    return g * expand((most / norm).clamp(max=1.0), g)
