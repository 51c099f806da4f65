"""How well posterior samplers estimate the value function and its gradient.

V_t(x) = log E[e^r(x1) | x_t = x] is what every steering method approximates with N posterior draws
(arXiv 2601.14430, sections 3 and 7.2.1).  Here it is asked at many contexts x_t of one time and
compared with the exact answer, or with long SDE rollouts where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.core.estimators import denoiser_shift, log_mean_exp
from bench.core.integrate import euler, filled, integrate
from bench.core.map_posterior import MapPosterior
from bench.core.noise import NoiseSource
from bench.core.paths import expand
from bench.core.posterior import Gaussian, Glass, SDERollout, repeated
from bench.core.protocols import Condition, Flow, Oracle, PosteriorSampler
from bench.core.tasks import Reward, Task
from bench.core.timing import timing_of

REFERENCE_STEPS, REFERENCE_PARTICLES = 200, 200
"""The paper's reference: 200 Euler-Maruyama steps, 200 particles; ours are ancestral steps."""

EVALUATIONS = (1, 2, 4, 8)
"""Network evaluations per draw of GLASS and of the SDE; the map is asked at the first three."""

DRAWN_ROWS = 4096
"""Rows that are drawn and differentiated at once."""


class Truth(NamedTuple):
    """V (contexts,) and grad V (contexts, *event) at the contexts."""

    value: Tensor
    gradient: Tensor


class PosteriorDraws(NamedTuple):
    """n posterior draws per context, with what estimators need of them.

    reward: (n, contexts).  x1: (n, contexts, *event).  pull: J' grad r, the derivative of every
    draw's own reward in x, for the first draws (at most n, contexts, *event), or None.
    """

    reward: Tensor
    x1: Tensor
    pull: Tensor | None


@dataclass(frozen=True)
class ValueQuestion:
    """Contexts x (contexts, *event) at time t, and the reward that is asked about."""

    task: Task[Any]
    reward: Reward[Any]
    strength: float
    x: Tensor
    t: float
    condition: Condition = None

    def score(self, x1: Tensor) -> Tensor:
        """strength * r of what every row decodes to."""
        seen = x1 if self.task.decode is None else self.task.decode(x1)
        return self.strength * self.reward(seen, self.condition)

    @property
    def times(self) -> Tensor:
        """t for every context."""
        return filled(self.t, self.x)


@torch.no_grad()
def contexts(task: Task[Any], t: float, n: int, seed: int = 0) -> Tensor:
    """n states x_t: held-out data noised to t; without data, the flow's own states at t."""
    source = NoiseSource(seed, "value-contexts")
    x0 = source.normal("noise", 0, tuple(task.event_shape), range(n))
    if task.decode is not None:
        x1 = task.draw_data(n, torch.Generator().manual_seed(seed))
        return task.flow.interpolant.noised(x1, x0, filled(t, x1))
    data = task.data("held-out")
    if data is None:
        timing = timing_of(task.flow)
        grid = timing.grid(200, end=t)
        return integrate(euler(task.flow.velocity), timing.started(x0, grid), grid)
    pick = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:n]
    return task.flow.interpolant.noised(data[pick], x0[: len(pick)], filled(t, data[pick]))


def samplers(task: Task[Any]) -> dict[str, tuple[PosteriorSampler, int]]:
    """Every posterior sampler of a task by name, with its network evaluations per draw.

    One Euler step of GLASS is the Tweedie point.  GLASS and the SDE share their first evaluation
    with all draws at the same context, so a draw more costs one evaluation less than is named.
    """
    flow: Flow = task.flow
    found: dict[str, tuple[PosteriorSampler, int]] = {"gaussian": (Gaussian(flow), 1)}
    found |= {f"glass-{k}": (Glass(flow, k), k) for k in EVALUATIONS}
    found |= {f"sde-{k}": (SDERollout(flow, k), k) for k in EVALUATIONS[1:]}
    if task.flow_map is not None:
        found |= {f"map-{k}": (MapPosterior(task.flow_map, k), k) for k in EVALUATIONS[:3]}
    if task.posterior is not None:
        found["exact"] = (task.posterior, task.posterior.rows_per_draw)
    return found


def draw(
    question: ValueQuestion,
    sampler: PosteriorSampler,
    n: int,
    pathwise: int = 0,
    salt: str = "value-draws",
) -> PosteriorDraws:
    """n draws per context; the first `pathwise` of them with the derivative of their reward.

    Every draw gets a copy of its context to be differentiated in, so that one backward pass gives
    J_i' grad r_i of all draws, and with them G at any number of draws.
    """
    keep = pathwise if sampler.pathwise and question.reward.differentiable else 0
    size = max(1, DRAWN_ROWS // len(question.x))
    chunks = _chunks(n, keep, size)
    parts = [_chunk(question, sampler, rows, rows.start < keep, salt) for rows in chunks]
    pulls = [part.pull for part in parts if part.pull is not None]
    return PosteriorDraws(
        torch.cat([part.reward for part in parts]),
        torch.cat([part.x1 for part in parts]),
        torch.cat(pulls) if pulls else None,
    )


def _chunks(n: int, keep: int, size: int) -> Iterator[range]:
    """Ranges of draw indices that do not straddle `keep`."""
    for first, last in ((0, keep), (keep, n)):
        yield from (range(k, min(k + size, last)) for k in range(first, last, size))


def _chunk(
    question: ValueQuestion, sampler: PosteriorSampler, draws: range, pathwise: bool, salt: str
) -> PosteriorDraws:
    count, n = len(question.x), len(draws)
    shape = (n, *question.x.shape)
    source = NoiseSource(0, salt)

    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        # One block of numbers per draw, so that draws do not depend on how they are chunked.
        return torch.cat([source.normal(name, k, shape, range(count)) for k in draws])

    x, t = repeated(question.x, n), repeated(question.times, n)
    with torch.set_grad_enabled(pathwise):
        x = x.clone().requires_grad_(pathwise)
        x1 = sampler.draw(x, t, 1, noise, question.condition)[0]
        reward = question.score(x1)
    pull = torch.autograd.grad(reward.sum(), x)[0].reshape(shape) if pathwise else None
    return PosteriorDraws(
        reward.detach().double().reshape(n, count),
        x1.detach().reshape(shape),
        pull,
    )


def value_estimate(draws: PosteriorDraws) -> Tensor:
    """log-mean-exp over the draws, (contexts,)."""
    return log_mean_exp(draws.reward)


def gradient_g(draws: PosteriorDraws) -> Tensor:
    """G: sum_i w_i J_i' grad r_i, w = softmax(r) over the draws (Eq. 22), (contexts, *event)."""
    assert draws.pull is not None
    weight = draws.reward[: len(draws.pull)].softmax(0)
    return (expand(weight, draws.pull) * draws.pull).sum(0)


def gradient_gf(question: ValueQuestion, draws: PosteriorDraws) -> Tensor:
    """GF: (beta / alpha^2) (sum_i w_i X_i - mean X), no derivative of anything (Eq. 20)."""
    shift = denoiser_shift(draws.reward, draws.x1)
    return question.task.flow.interpolant.value_gradient(shift, question.times)


def exact_truth(question: ValueQuestion, oracle: Oracle) -> Truth:
    """The closed form."""
    shift = oracle.shift(question.x, question.times)
    gradient = question.task.flow.interpolant.value_gradient(shift, question.times)
    return Truth(oracle.value(question.x, question.times), gradient)


def rollout_draws(
    question: ValueQuestion, steps: int = REFERENCE_STEPS, particles: int = REFERENCE_PARTICLES
) -> PosteriorDraws:
    """Long SDE rollouts: V from all of them (bias about -1/particles), grad V from GF.

    Cost: `steps * particles` flow rows per context.
    """
    return draw(question, SDERollout(question.task.flow, steps), particles, salt="value-reference")


def rollout_truth(question: ValueQuestion, draws: PosteriorDraws) -> Truth:
    """What a set of rollouts says; two halves of one set say how noisy it is."""
    return Truth(value_estimate(draws), gradient_gf(question, draws))


def part(draws: PosteriorDraws, rows: slice) -> PosteriorDraws:
    """Some of the draws."""
    pull = None if draws.pull is None else draws.pull[rows]
    return PosteriorDraws(draws.reward[rows], draws.x1[rows], pull)
