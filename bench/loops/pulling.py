"""Posterior draws with their rewards and the gradients of these, in pieces that fit memory.

With draws X_i(x, b) of p(x1 | x_t = x), where b = b_t(x) is the velocity that all draws share, each
draw has a reward r_i and its gradients in x (at fixed b) and in b.  Pieces need no more than their
own graph, and

    grad_x V_hat = sum_i w_i dr_i/dx + J_b' sum_i w_i dr_i/db,    w_i = dV_hat/dr_i,

closes the sum once all rewards are known, at the one backward row of the flow that back-propagation
through all draws together takes.  Rows are those of one piece; numbers agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.estimators import log_mean_exp
from bench.core.paths import expand
from bench.core.posterior import Remembered
from bench.core.problem import Problem
from bench.core.protocols import Noise
from bench.core.rows import in_rows
from bench.loops.posteriors import PosteriorChoice


@dataclass(frozen=True)
class Pulled:
    """n draws (n, batch, *event_shape) and rewards (n, batch), and, if they were asked for, the
    gradients of every draw's reward in x at fixed b, and in b; of the shape of the draws.
    """

    x1: Tensor
    rewards: Tensor
    at_x: Tensor | None = None
    at_b: Tensor | None = None

    def slope(
        self, pool: Callable[[Tensor], Tensor], x: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor]:
        """grad_x of log-mean-exp of the pooled rewards, and its value (batch,).

        b is the velocity as a function of x, or a constant if gradients do not pass through it.
        """
        assert self.at_x is not None and self.at_b is not None
        rewards = self.rewards.detach().requires_grad_()
        value = log_mean_exp(pool(rewards))
        (weight,) = torch.autograd.grad(value.sum(), rewards)
        slope, shared = ((expand(weight, v) * v).sum(0) for v in (self.at_x, self.at_b))
        if b.requires_grad:
            slope = slope + torch.autograd.grad(b, x, shared)[0]
        return slope, value.detach()


def pull(
    problem: Problem,
    choice: PosteriorChoice,
    x: Tensor,
    t: Tensor,
    b: Tensor,
    draws: int,
    noise: Noise,
    gradient: bool,
) -> Pulled:
    """Draw, score and differentiate piece by piece; b is the velocity at (x, t)."""
    n = 1 if choice.entry.point else draws
    copies = draws // n
    closed = choice.entry.role == "oracle" and not gradient
    flow = Remembered(problem.flow)
    sampler = choice.build(problem, flow)
    normals = _Normals(noise, n)
    # A closed form has no networks to run in pieces, and looks at x once for all draws.
    drawn = sampler.draw(x, t, n, noise).flatten(0, 1) if closed else None

    def piece(rows: Tensor) -> tuple[Tensor | None, ...]:
        own = rows % len(x)
        here, times, there = x.detach()[own], t[own], b.detach()[own]
        with torch.set_grad_enabled(gradient):
            here, there = here.requires_grad_(gradient), there.requires_grad_(gradient)
            flow.remember(here, times, there)
            x1 = (
                sampler.draw(here, times, copies, normals.of(rows))
                if drawn is None
                else drawn[rows][None]
            )
            r = problem.reward(x1.flatten(0, 1)).reshape(x1.shape[:2])
        found = _slopes(r, here, there) if gradient else (None, None)
        # Draws of a point are the same: each has its share of the gradient of them all.
        shares = (None if v is None else v / copies for v in found)
        return (x1.detach().transpose(0, 1), r.detach().T, *shares)

    rows = torch.arange(n * len(x), device=x.device)
    key = ("pull", tuple(x.shape[1:]), x.dtype, choice, copies, gradient)
    x1, r, *slopes = in_rows(piece, rows, meter=problem.meter, most=problem.most_rows, key=key)
    x1, r = (_by_draw(v.transpose(0, 1), n, len(x)) for v in (x1, r))
    at_x, at_b = (None if v is None else _by_draw(v[None], n, len(x)) for v in slopes)
    return Pulled(x1, r, _repeated(at_x, copies), _repeated(at_b, copies))


def _slopes(r: Tensor, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of each row's rewards in x and b, zero in what they do not depend on."""
    found = torch.autograd.grad(r.sum(), (x, b), allow_unused=True)
    at_x, at_b = (torch.zeros_like(x) if g is None else g for g in found)
    return at_x, at_b


def _by_draw(value: Tensor, n: int, batch: int) -> Tensor:
    """(copies, n * batch, ...), draw-major, as (copies * n, batch, ...)."""
    return value.reshape(value.shape[0] * n, batch, *value.shape[2:])


def _repeated(value: Tensor | None, copies: int) -> Tensor | None:
    return None if value is None else value.expand(copies * len(value), *value.shape[1:])


class _Normals:
    """The normals of n draws, each asked for one draw of some rows; made once for all pieces."""

    def __init__(self, noise: Noise, n: int) -> None:
        self.noise, self.n = noise, n
        self._kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def of(self, rows: Tensor) -> Noise:
        """The noise of rows in draw-major order, as a sampler of one draw asks for it."""

        def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
            rest = tuple(shape[1:])
            if (name, rest) not in self._kept:
                z = self.noise(name, (self.n, *rest)).transpose(0, 1)
                self._kept[name, rest] = z.reshape(-1, *rest)
            return self._kept[name, rest][rows][:, None]

        return drawn
