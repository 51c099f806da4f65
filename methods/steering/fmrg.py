"""Greedy control by the flow map: a step of the map, a step up the reward at its end X_{u,1}(x).

DPS looks at the mean of the posterior; FMRG looks at the point to which the deterministic flow
would carry x, and steers the most promising of a few trajectories with no law in mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bench.api import (
    DRIFT_SCALES,
    Growth,
    Method,
    Need,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Remembered,
    Samples,
    Scalars,
    SteeringTerm,
    Work,
    best_candidate,
    candidate_noise,
    expand,
    forward,
    march,
    named_param,
    param,
    reward_work,
    row_blocks,
    scale_of,
    steering_ratio,
    value_gradient,
)

FEWEST, MOST = 4, 26
"""Guided steps of the release's smallest and largest setting: the weight grows between them."""


@dataclass(frozen=True)
class FMRGParams:
    """The release's settings for images, which grow with its budget of 6 to 100 map evaluations.

    There K = 4, 5, 8, 12, 10, 14, 26, 26 guided steps go with weights 2, 3, 3, 3, 3, 3, 5, 5, with
    `stop` of 1/4 or, for 10, 14 and the last, 1/8, and with warm-ups of 1, 2, 3 ... 3 particles
    over 0, 2, 4, 6, 4, 7, 11, 11 of the steps: about 45 % of K, and a whole push (weight times
    stop) that grows as K^0.2 from 0.5.  Here `stop` stays and the push is the weight's.
    """

    steps: int = param(4, low=1, high=1000, log=True, help="guided steps K, up to time `stop`")
    particles: int = param(1, low=1, high=10_000, log=True, help="particles P of the warm-up")
    warmup: float = param(0.45, low=0.0, high=1.0, help="share of K after which the best goes on")
    stop: float = param(0.25, low=0.01, high=1.0, help="time at which guidance ends")
    tail: int = param(2, low=1, high=64, log=True, help="unguided jumps from `stop` to 1")
    jacobian: bool = param(True, help="true: FMRG-J, gradient through the map; false: FMRG-E")
    scale: str = named_param(
        "rescale", DRIFT_SCALES, "of the gradient, b the map's mean velocity", searched=True
    )
    guidance: float = param(2.0, low=0.0, high=100.0, help="weight lambda of the reward at K = 4")
    growth: float = param(
        0.25, low=0.0, high=2.0, help="lambda = guidance (K / 4)^growth, up to K = 26"
    )


class FMRG(Method[FMRGParams]):
    """Flow-map reward guidance: a step of the map, a step along the reward's gradient at its end.

    Huang et al. 2026 (arXiv 2604.27147): x <- X_{t,u}(x), then x <- x + (u - t) lambda g with
    g = grad_x r(X_{u,1}(x)) (FMRG-J) or grad r at X_{u,1}(x) (FMRG-E), until `stop`; then the map
    alone.  P particles share the first W = round(warmup K) steps, and the one of highest reward at
    its look-ahead goes on.  (The release takes the gradient at t, before the step.)  Assumes a
    differentiable reward and a flow map.  It is greedy control towards a maximum: no setting aims
    at the tilted law, and early stopping limits over-optimisation.  More steps of one weight tend
    to one control and change nothing; so the weight grows with K, up to the release's largest (more
    leaves the data), and P with the budget.
    Cost per sample in paper-nfe: 5 (K - W + P W) + 2 P + tail, or 5 K + tail for P = 1; FMRG-E 4 in
    the place of 5.
    """

    version = "2"
    summary = "alternates steps of the flow map with gradient steps on its look-ahead"
    standing = "baseline"
    Params = FMRGParams
    effort: ClassVar[tuple[str, ...]] = ("particles", "steps", "tail")
    split: ClassVar[Mapping[str, Growth]] = {
        "particles": Growth(1, 0.5),
        "steps": Growth(4, 0.5),
        "tail": Growth(2, 0),
    }

    def __init__(self, params: FMRGParams) -> None:
        super().__init__(params)
        if params.stop == 1:
            self.effort = ("particles", "steps")  # type: ignore[misc]

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.REWARD_GRADIENT, Need.FLOW_MAP})

    @property
    def lookahead(self) -> PosteriorChoice:
        """Where the reward is read."""
        return PosteriorChoice("jump", jacobian=self.params.jacobian)

    def grid(self, problem: Problem) -> list[float]:
        """K guided intervals, then the tail, if there is room for one."""
        p = self.params
        after = problem.remaining(p.stop, p.tail)[1:] if p.stop < 1 else []
        return problem.grid(p.steps, end=p.stop) + after

    @property
    def shared(self) -> int:
        """The steps W of the warm-up; none for a single particle."""
        p = self.params
        return max(1, round(p.warmup * p.steps)) if p.particles > 1 else 0

    @property
    def weight(self) -> float:
        """lambda at these steps."""
        p = self.params
        return float(p.guidance * (min(p.steps, MOST) / FEWEST) ** p.growth)

    def work(self, spec: ProblemSpec) -> Work:
        p, shared = self.params, self.shared
        look = self.lookahead.work(1, gradient=True) + reward_work(spec, 1, gradient=True)
        guided = (look + forward("map")) * float(p.steps - shared + p.particles * shared)
        choice = self.lookahead.work(1, gradient=False) + reward_work(spec, 1)
        chosen = choice * float(p.particles if shared else 0)
        return guided + chosen + forward("map", p.tail if p.stop < 1 else 0)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        blocks = row_blocks(problem.rows, self.params.particles)
        return Samples.joined([self._guided(problem.for_rows(rows)) for rows in blocks])

    def _guided(self, problem: Problem) -> Samples:
        p, flow_map = self.params, problem.flow_map
        assert flow_map is not None
        scale = scale_of(replace(p, guidance=self.weight))
        ahead = self.lookahead.build(problem, Remembered(problem.flow))

        def seen(x: Tensor, t: Tensor, k: int) -> Tensor:
            return problem.reward(ahead.draw(x, t, 1, problem.noise_at(k))[0])

        def gradient(x: Tensor, t: Tensor, k: int) -> Tensor:
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                return value_gradient(seen(x, t, k)[None], x)

        def promising(x: Tensor, u: Tensor, k: int) -> Tensor:
            shape = (-1, p.particles, *problem.event_shape)
            return best_candidate(x.reshape(shape), seen(x, u, k).reshape(shape[:2]))

        def move(x: Tensor, t: Tensor, u: Tensor, k: int) -> tuple[Tensor, Scalars]:
            carried, dt = flow_map.jump(x, t, u), expand(u - t, x)
            if k >= p.steps:
                return carried, {}
            b = (carried - x) / dt
            g = scale(SteeringTerm(b, gradient(carried, u, k), {}), problem.interpolant, u)
            x = carried + dt * g
            x = promising(x, u, k) if k + 1 == self.shared else x
            return x, steering_ratio(g, b)

        start = candidate_noise(problem, "x0", "particles", 0, p.particles).flatten(0, 1)
        grid = self.grid(problem)
        return march(problem, grid, move, problem.started(start, grid))
