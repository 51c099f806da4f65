"""One step of training-free guidance, in the flow's convention.

    for each step (t, u), R times over, going back from u to t by noise in between:
        D   = denoiser(x, t)
        v   = rho_t (alpha^2 + beta^2) / beta_t * grad_x f(D)      variance guidance
        m   = inner gradient steps of size mu_t on f(D + m)        mean guidance
        x_u = beta_u (D + v + m) + alpha_u e                       e: noise implied by x and D

f(x1) = log mean_j e^(r(x1 + s_t e_j)).  The papers write DDIM for variance-preserving diffusion;
with alpha-bar = beta^2 / (alpha^2 + beta^2) and x scaled by sqrt(alpha^2 + beta^2) their update is
the one above, on any interpolant (on the linear one DDIM is the Euler step of the flow).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from bench.api import (
    Interpolant,
    Problem,
    Scalars,
    ancestral_moments,
    draws_of,
    expand,
    limited,
    rewards_of,
    safe,
    signal_level,
    steering_ratio,
    value_gradient,
)

Hold = Literal["noise", "state"]


# -- sizes along a run: factors of K steps, from alpha-bar at the K + 1 times ---------------------


def _of_mean_one(raw: list[float]) -> list[float]:
    return [value * len(raw) / sum(raw) for value in raw]


def _increase(levels: Sequence[float]) -> list[float]:
    """a/a', of mean 1."""
    return _of_mean_one([a / b for a, b in pairwise(levels)])


def _decrease(levels: Sequence[float]) -> list[float]:
    """1 - a/a', of mean 1."""
    return _of_mean_one([1 - a / b for a, b in pairwise(levels)])


def _constant(levels: Sequence[float]) -> list[float]:
    """1."""
    return _of_mean_one([1.0] * (len(levels) - 1))


def _freedom(levels: Sequence[float]) -> list[float]:
    """a / sqrt(a'), for x_u += rho sqrt(a) grad f."""
    return [a / b**0.5 for a, b in pairwise(levels)]


def _ugd(levels: Sequence[float]) -> list[float]:
    """1 - a, for noise -= rho alpha_t grad_x f."""
    return [1 - a for a, _ in pairwise(levels)]


SCHEDULES: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "increase": _increase,
    "decrease": _decrease,
    "constant": _constant,
    "freedom": _freedom,
    "ugd": _ugd,
}


def _fading(interpolant: Interpolant, t: Tensor) -> Tensor:
    """sqrt(1 - alpha-bar)."""
    return (1 - signal_level(interpolant, t) ** 2).sqrt()


def _steady(_: Interpolant, t: Tensor) -> Tensor:
    """1."""
    return torch.ones_like(t)


SMOOTHINGS: Mapping[str, Callable[[Interpolant, Tensor], Tensor]] = {
    "decrease": _fading,
    "constant": _steady,
}
"""Factors (batch,) of the deviation of the smoothing."""


# -- moves ----------------------------------------------------------------------------------------


def implicit(
    i: Interpolant, x: Tensor, denoised: Tensor, t: Tensor, u: Tensor, eta: float, z: Tensor
) -> Tensor:
    """x_u = beta_u D + sqrt(alpha_u^2 - s^2) e + s z, with e = (x - beta_t D) / alpha_t.

    s is eta times the deviation of the ancestral step: DDIM (eta = 0), the memoryless SDE (1).
    """
    e = (x - expand(i.beta(t), x) * denoised) / expand(safe(i.alpha(t)), x)
    s = eta * ancestral_moments(i, x, denoised, t, u)[1]
    kept = (i.alpha(u) ** 2 - s**2).clamp(min=0).sqrt()
    return expand(i.beta(u), x) * denoised + expand(kept, x) * e + expand(s, x) * z


def renoised(i: Interpolant, x: Tensor, u: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """x_t given x_u for t < u: (beta_t / beta_u) x_u and the noise that is missing."""
    ratio, missing = i.noising(u, t)
    return expand(ratio, x) * x + expand(missing, x) * z


@dataclass(frozen=True)
class Guided:
    """The steps of TFG on one problem; rho and mu hold one size per step."""

    problem: Problem
    params: Any
    rho: Sequence[float]
    mu: Sequence[float]

    @staticmethod
    def of(problem: Problem, params: Any) -> Guided:
        """Sizes from the schedules on this problem's interpolant."""
        times = torch.tensor(problem.grid(params.steps, params.start), dtype=torch.float64)
        levels = (signal_level(problem.interpolant, times) ** 2).tolist()
        unit = params.reference_steps / params.steps if params.reference_steps else 1.0
        rho, mu = (
            [unit * size * factor for factor in SCHEDULES[rule](levels)]
            for size, rule in ((params.rho, params.rho_schedule), (params.mu, params.mu_schedule))
        )
        return Guided(problem, params, rho, mu)

    def move(self, x: Tensor, t: Tensor, u: Tensor, k: int) -> tuple[Tensor, Scalars]:
        """From x at t to u, R times."""
        rounds, shape = self.params.recurrence, self.problem.event_shape
        for index in range(rounds * k, rounds * (k + 1)):
            if index > rounds * k:
                z = self.problem.noise("recurrence", index, shape)
                x = renoised(self.problem.interpolant, x, u, t, z)
            x, info = self.once(x, t, u, k, index)
        return x, info

    def once(self, x: Tensor, t: Tensor, u: Tensor, k: int, index: int) -> tuple[Tensor, Scalars]:
        """One guided step; `index` counts all of them, for the noise."""
        i, p = self.problem.interpolant, self.params
        offsets = self.offsets(x, t, index)
        denoised, b, shift = self.variance_guidance(x, t, k, offsets)
        shift = shift + self.mean_guidance(denoised, k, offsets)
        z = torch.zeros_like(x)
        if p.eta:
            z = self.problem.noise("step", index, self.problem.event_shape)
        plain = implicit(i, x, denoised, t, u, p.eta, z)
        if p.hold == "state":
            guided = implicit(i, x, denoised + shift, t, u, p.eta, z)
        else:
            guided = plain + expand(i.beta(u), x) * shift
        return guided, steering_ratio((guided - plain) / expand(u - t, x), b)

    def offsets(self, x: Tensor, t: Tensor, index: int) -> Tensor:
        """s_t e_j, (draws, batch, *event): where around a point f looks."""
        p = self.params
        if not p.sigma:
            return torch.zeros_like(x)[None]
        noise = draws_of(self.problem.noise_at(index), "smoothing", p.draws, x.shape[1:])
        level = SMOOTHINGS[p.sigma_schedule](self.problem.interpolant, t)
        return expand(p.sigma * level, x) * noise

    def slope(self, point: Tensor, offsets: Tensor, x: Tensor) -> Tensor:
        """grad_x of f at a point that depends on x, its length limited."""
        around = point + offsets
        gradient = value_gradient(rewards_of(self.problem, around), x)
        most = self.params.clip * gradient[0].numel() ** 0.5
        return limited(gradient, torch.full_like(gradient.flatten(1)[:, 0], most))

    def variance_guidance(
        self, x: Tensor, t: Tensor, k: int, offsets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """D, b and v."""
        i, guided = self.problem.interpolant, bool(self.params.rho)
        x = x.detach().requires_grad_(guided)
        with torch.set_grad_enabled(guided):
            b = self.problem.flow.velocity(x, t)
            denoised = i.denoiser(b, x, t)
            if not guided:
                return denoised, b, torch.zeros_like(x)
            gradient = self.slope(denoised, offsets, x)
        late = t.clamp(min=self.params.start)  # beta is 0 where a flow's own times may begin
        weight = self.rho[k] * (i.alpha(t) ** 2 + i.beta(t) ** 2) / safe(i.beta(late))
        return denoised.detach(), b.detach(), expand(weight, x) * gradient

    def mean_guidance(self, denoised: Tensor, k: int, offsets: Tensor) -> Tensor:
        """m."""
        found = torch.zeros_like(denoised)
        for _ in range(self.params.inner if self.params.mu else 0):
            point = (denoised + found).requires_grad_()
            with torch.enable_grad():
                found = found + self.mu[k] * self.slope(point, offsets, point)
        return found
