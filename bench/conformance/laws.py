"""What a task must keep beyond its flow: the map, the posterior, and the laws that it knows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bench.conformance.findings import CHECK_ROWS, Check, Skipped, check_tensor, expect
from bench.conformance.tasks import TaskSubject
from bench.core.integrate import filled
from bench.core.params import NoParams
from bench.core.protocols import PosteriorSampler
from bench.core.quadratic import Quadratic, linear
from bench.core.tasks import Reward, Task

TIME = 0.3
"""Early enough for a posterior to be wide."""
DRAWS = 1024
SLOPE_GROUPS = 16


class Slope(Reward[NoParams]):
    """The sum of all entries over sqrt(d): a reward that every task can be asked about."""

    def __call__(self, x: Tensor, condition: Any) -> Tensor:
        return x.flatten(1).sum(1) / math.sqrt(x[0].numel())

    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        if task.decode is not None or len(task.event_shape) != 1:
            return None
        d = task.event_shape[0]
        return linear(torch.full((d,), d**-0.5))


def flow_map(s: TaskSubject) -> None:
    """The flow map jumps from noise to data, and its posterior velocity has the right shape."""
    found, x = s.task.flow_map, s.normal("x0")
    if found is None:
        raise Skipped("the task has no flow map")
    zero, half, one = (filled(t, x) for t in (0.0, 0.5, 1.0))
    with torch.no_grad():
        jumped = found.jump(x, zero, one, s.condition)
        v = found.velocity(x, zero, one, s.noised(0.5), half, s.condition)
    check_tensor("flow_map.jump(x, 0, 1)", jumped, tuple(x.shape))
    check_tensor("flow_map.velocity", v, tuple(x.shape))


def posterior(s: TaskSubject) -> None:
    """Posterior draws have shape (n, batch, *event_shape), and the same noise gives the same."""
    sampler, x = _posterior(s), s.noised(TIME)
    first = _draws(s, sampler, x, 3).detach()
    check_tensor("posterior.draw", first, (3, CHECK_ROWS, *s.shape))
    same = torch.equal(first, _draws(s, sampler, x, 3).detach())
    expect(same, "the same noise gave other draws the second time: draw from the noise handed in")


def posterior_mean(s: TaskSubject) -> None:
    """Draws of the posterior average to the denoiser D_t(x) of the flow."""
    x = s.noised(TIME)
    draws = _draws(s, _posterior(s), x, DRAWS).detach()
    error = float((draws.std(0) / DRAWS**0.5).norm())
    gap = float((draws.mean(0) - _denoised(s, x).detach()).norm())
    # Both are norms over all rows, so that a gap of three errors is far beyond chance.
    expect(
        gap <= 3 * error + 1e-4,
        f"the mean of {DRAWS} draws is {gap:.3g} off D_t(x), where chance explains {error:.1g}",
    )


def pathwise(s: TaskSubject) -> None:
    """`pathwise` is true only if gradients of draws average to the gradient of their mean."""
    sampler, x = _posterior(s), s.noised(TIME).requires_grad_()
    if not sampler.pathwise:
        raise Skipped("the posterior claims no gradients")
    draws = _draws(s, sampler, x, DRAWS)
    expect(draws.requires_grad, "pathwise is True, but no gradient passes through a draw")
    parts = [part.mean(0).sum() for part in draws.chunk(SLOPE_GROUPS)]
    slopes = torch.stack([torch.autograd.grad(p, x, retain_graph=True)[0] for p in parts])
    truth = torch.autograd.grad(_denoised(s, x).sum(), x)[0]
    error = float((slopes.std(0) / SLOPE_GROUPS**0.5).norm())
    gap, scale = float((slopes.mean(0) - truth).norm()), float(truth.norm())
    expect(
        gap <= 3 * error + 0.02 * scale,
        f"pathwise is True, but gradients of draws average to {gap / scale:.0%} off the gradient "
        "of the posterior mean: a discrete choice inside a draw has no gradient",
    )


def _posterior(s: TaskSubject) -> PosteriorSampler:
    if s.task.posterior is None:
        raise Skipped("the task has no exact posterior")
    return s.task.posterior


def _draws(s: TaskSubject, sampler: PosteriorSampler, x: Tensor, n: int) -> Tensor:
    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return s.normal(name, len(x), shape)

    return sampler.draw(x, filled(TIME, x), n, noise, s.condition)


def _denoised(s: TaskSubject, x: Tensor) -> Tensor:
    t, flow = filled(TIME, x), s.task.flow
    return flow.interpolant.denoiser(flow.velocity(x, t, s.condition), x, t)


def reference(s: TaskSubject) -> None:
    """A reference has finite data (n, *data_shape), and weights that sum to one."""
    found = s.task.reference(Slope(NoParams()), 1.0, s.condition, 100, 0)
    if found is None:
        raise Skipped("the task has no reference for a linear reward")
    check_tensor("reference.x", found.x, (len(found.x), *s.task.data_shape))
    if found.weight is None:
        return
    total = float(found.weight.double().sum())
    check_tensor("reference.weight", found.weight.float(), (len(found.x),))
    expect(abs(total - 1) < 1e-3, f"reference weights must sum to one, and sum to {total:.4f}")
    expect(bool((found.weight >= 0).all()), "reference weights must not be negative")
    expect(not found.exact, "a weighted reference is not exact")


def oracle(s: TaskSubject) -> None:
    """The closed form for a quadratic reward has finite shift, value and draws."""
    found = s.task.oracle(Slope(NoParams()), 1.0)
    if found is None:
        raise Skipped("the task has no closed form")
    x, z = s.noised(0.5), s.normal("z")
    t = filled(0.5, x)
    check_tensor("oracle.shift", found.shift(x, t), tuple(x.shape))
    check_tensor("oracle.value", found.value(x, t), (len(x),))
    check_tensor("oracle.draw", found.draw(z, s.normal("extra", shape=())), tuple(z.shape))


CHECKS: tuple[Check[TaskSubject], ...] = (
    flow_map,
    posterior,
    posterior_mean,
    pathwise,
    reference,
    oracle,
)
