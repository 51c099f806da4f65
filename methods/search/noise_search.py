"""Search over the initial noise of a deterministic generator: by neighbours, or by gradient.

Both hold on to one noise per output and return the best sample seen, so more effort never lowers
the reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bench.api import Method, Need, Problem, ProblemSpec, Samples, Work
from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.params import param
from bench.core.paths import expand
from bench.core.units import Role
from bench.core.work import backward, forward
from bench.loops.candidates import chosen
from bench.loops.particles import finite
from bench.loops.populations import blocks
from bench.loops.steering import reward_work

Kind = Literal["ode", "map"]


@dataclass(frozen=True)
class Generator:
    """G: noise -> sample, the base ODE in `steps` Euler steps or `steps` jumps of the flow map."""

    kind: Kind
    steps: int

    @property
    def role(self) -> Role:
        """Whose rows a sample spends."""
        return "map" if self.kind == "map" else "flow"

    @property
    def needs(self) -> frozenset[Need]:
        """What the problem must offer."""
        return frozenset({Need.FLOW_MAP} if self.kind == "map" else ())

    def build(self, problem: Problem) -> Callable[[Tensor], Tensor]:
        """G over metered callables."""
        step = euler(problem.flow.velocity)
        if self.kind == "map":
            assert problem.flow_map is not None
            step = problem.flow_map.jump
        return lambda e: integrate(step, e, uniform_grid(self.steps))


@dataclass(frozen=True)
class ZeroOrderParams:
    """Four neighbours at cosine 0.95 over four rounds, as in the public re-implementation."""

    iterations: int = param(4, low=0, high=1_000_000, log=False, help="rounds I of the search")
    neighbours: int = param(4, low=1, high=100_000, log=True, help="neighbours N per round")
    steps: int = param(20, low=1, high=1000, log=True, help="steps K of the generator")
    similarity: float = param(0.95, low=0.0, high=1.0, help="expected cosine to the pivot")
    generator: Kind = param("ode", help="ode (Euler) or map (flow-map jumps)")


class OverNoise(Method[Any]):
    """A search for the initial noise of a generator; `steps` and `generator` say which."""

    @property
    def generator(self) -> Generator:
        """Noise to sample."""
        return Generator(self.params.generator, self.params.steps)

    @property
    def needs(self) -> frozenset[Need]:
        return self.generator.needs


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
        once = forward(self.generator.role, p.steps) + reward_work(spec, 1)
        work: Work = once * (1.0 + p.neighbours * p.iterations)
        return work

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        parts = blocks(problem.rows, self.params.neighbours)
        return Samples(torch.cat([self._searched(problem.for_rows(rows)) for rows in parts]))

    def _searched(self, problem: Problem) -> Tensor:
        p, generate = self.params, self.generator.build(problem)
        e = problem.x0()
        x = generate(e)
        r = problem.reward(x)
        for i in range(p.iterations):
            z = problem.noise("neighbours", i, (p.neighbours, *problem.event_shape))
            y = p.similarity * e[:, None] + math.sqrt(1 - p.similarity**2) * z
            flat = generate(y.flatten(0, 1))
            scores = torch.cat([r[:, None], problem.reward(flat).reshape(y.shape[:2])], 1)
            winner = scores.argmax(1, keepdim=True)
            e = chosen(torch.cat([e[:, None], y], 1), winner)[:, 0]
            x = chosen(torch.cat([x[:, None], flat.reshape(y.shape)], 1), winner)[:, 0]
            r = scores.gather(1, winner)[:, 0]
            problem.log(i, reward=float(r.mean()))
        return x


@dataclass(frozen=True)
class ReNOParams:
    """The release's defaults: one step of a distilled model, 50 evaluations."""

    iterations: int = param(50, low=1, high=100_000, log=True, help="noises I that are evaluated")
    steps: int = param(1, low=1, high=1000, log=True, help="steps K of the generator")
    rate: float = param(5.0, low=1e-3, high=1e3, log=True, help="learning rate of SGD")
    momentum: float = param(0.9, low=0.0, high=0.999, help="Nesterov momentum")
    clip: float = param(0.1, low=1e-6, high=1e6, log=True, help="largest gradient norm per sample")
    regularisation: float = param(0.01, low=0.0, high=100.0, help="weight of the noise's log prior")
    generator: Kind = param("map", help="map (flow-map jumps) or ode (Euler)")


class ReNO(OverNoise):
    """ReNO: gradient ascent on the initial noise of a few-step generator.

    Eyring et al. 2024 (arXiv 2406.04312): maximise r(G(e)) - lambda (|e|^2 / 2 - (d - 1) log |e|),
    the second term being the log density of |e| under N(0, I); SGD with Nesterov momentum on
    gradients clipped per sample; returns the iterate of highest reward, without the penalty.  Rate,
    clip and lambda are the source's, for d = 16,384 and |e| = 128: a first step is up to 0.95 long
    and |e| is held back only near |grad r| / lambda, which is far out in low dimension.
    Assumes a differentiable reward and generator.  Biased towards high reward, and away from
    the base model where lambda is small: not the tilted law.  The last noise needs no gradient.
    Cost per sample: (2 I - 1) (K + 1) paper-nfe, I forwards and I - 1 backwards of G and reward.
    """

    summary = "gradient ascent on the initial noise of a few-step generator"
    Params = ReNOParams
    effort = ("iterations", "steps")

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {Need.REWARD_GRADIENT}

    def work(self, spec: ProblemSpec) -> Work:
        steps, role, moves = self.params.steps, self.generator.role, self.params.iterations - 1
        last = forward(role, steps) + reward_work(spec, 1)
        move = forward(role, steps) + backward(role, steps) + reward_work(spec, 1, gradient=True)
        return last + move * float(moves)

    @torch.enable_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        parts = blocks(problem.rows, self.params.steps)
        return Samples(torch.cat([self._optimised(problem.for_rows(rows)) for rows in parts]))

    def _optimised(self, problem: Problem) -> Tensor:
        p, generate = self.params, self.generator.build(problem)
        e = problem.x0().requires_grad_()
        sgd = torch.optim.SGD([e], lr=p.rate, momentum=p.momentum, nesterov=p.momentum > 0)
        x, top = torch.empty(0), torch.empty(0)
        for i in range(p.iterations):
            moves = i < p.iterations - 1
            with torch.set_grad_enabled(moves):
                found = generate(e)
                r = problem.reward(found)
            x, top = kept(x, top, found.detach(), r.detach()) if i else (found.detach(), r.detach())
            problem.log(i, reward=float(top.mean()))
            if moves:
                objective = r + p.regularisation * log_norm_density(e)
                (ascent,) = torch.autograd.grad(objective.sum(), e)
                e.grad = -clipped(finite(ascent, "gradients", i), p.clip)
                sgd.step()
        return x


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
