"""The interpolant x_t = alpha_t x0 + beta_t x1 and the identities that follow from it.

Time runs from 0 (noise, x0 ~ N(0, I)) to 1 (data, x1 ~ p).  With D = E[x1 | x_t] the velocity,
the denoiser and the score carry the same information (arXiv 2601.14430, Eq. 4 and section 1):

    b = (alpha'/alpha) x + (beta' - alpha' beta/alpha) D        score = (beta D - x) / alpha^2

Every division that blows up at an end of the time axis goes through `safe`, the only clamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

TINY = 1e-6
"""The smallest alpha_t or beta_t that is divided by."""


def safe(value: Tensor) -> Tensor:
    """`value`, kept at least `TINY`: alpha_t near t = 1 and beta_t near t = 0 vanish."""
    return value.clamp(min=TINY)


def expand(t: Tensor, like: Tensor) -> Tensor:
    """Reshape a (batch,) tensor so that it broadcasts over `like`, which is (batch, *event)."""
    return t.reshape(t.shape + (1,) * (like.dim() - t.dim()))


class Schedule(Protocol):
    """The four functions that define an interpolant; each maps t (batch,) to (batch,)."""

    def alpha(self, t: Tensor) -> Tensor: ...
    def beta(self, t: Tensor) -> Tensor: ...
    def d_alpha(self, t: Tensor) -> Tensor: ...
    def d_beta(self, t: Tensor) -> Tensor: ...
    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The t at which beta_t / alpha_t equals `ratio`."""
        ...


class Interpolant:
    """Identities shared by all schedules; subclasses give the four functions of `Schedule`.

    All methods take x of shape (batch, *event) and t of shape (batch,).
    """

    def alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def beta(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def d_alpha(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def d_beta(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        raise NotImplementedError

    def wronskian(self, t: Tensor) -> Tensor:
        """alpha beta' - alpha' beta: equal to 1 for the linear interpolant."""
        return self.alpha(t) * self.d_beta(t) - self.d_alpha(t) * self.beta(t)

    def noised(self, x1: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + beta_t x1."""
        return expand(self.alpha(t), x1) * x0 + expand(self.beta(t), x1) * x1

    def noising(self, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """rho and s, (batch,), of x_t | x_u ~ N(rho x_u, s^2 I) for t < u: rho = beta_t / beta_u.

        s^2 = alpha_t^2 - rho^2 alpha_u^2 is the noise that x_u lacks.
        """
        rho = self.beta(t) / safe(self.beta(u))
        return rho, (self.alpha(t) ** 2 - (rho * self.alpha(u)) ** 2).clamp(min=0).sqrt()

    def denoiser(self, b: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """D = (alpha b - alpha' x) / (alpha beta' - alpha' beta); no division by alpha."""
        alpha, d_alpha = expand(self.alpha(t), x), expand(self.d_alpha(t), x)
        return (alpha * b - d_alpha * x) / expand(self.wronskian(t), x)

    def velocity(self, denoised: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """b = (alpha' x + (alpha beta' - alpha' beta) D) / alpha."""
        numerator = expand(self.d_alpha(t), x) * x + expand(self.wronskian(t), x) * denoised
        return numerator / expand(safe(self.alpha(t)), x)

    def score(self, denoised: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """s = (beta D - x) / alpha^2."""
        return (expand(self.beta(t), x) * denoised - x) / expand(safe(self.alpha(t)), x) ** 2

    def half_variance(self, t: Tensor) -> Tensor:
        """sigma_t^2 / 2 = (beta'/beta) alpha^2 - alpha' alpha, the memoryless coefficient (Eq. 14).

        Linear: (1 - t) / t.
        """
        return self.alpha(t) * self.wronskian(t) / safe(self.beta(t))

    def tilt(self, shift: Tensor, t: Tensor) -> Tensor:
        """Velocity added when the denoiser moves by `shift` = D^r - D.

        Equal to (sigma^2/2) grad V and regular at t = 0, where half_variance is not.
        """
        return expand(self.wronskian(t) / safe(self.alpha(t)), shift) * shift

    def value_gradient(self, shift: Tensor, t: Tensor) -> Tensor:
        """grad V = (beta / alpha^2) (D^r - D)."""
        return expand(self.beta(t) / safe(self.alpha(t)) ** 2, shift) * shift


@dataclass(frozen=True)
class Linear(Interpolant):
    """alpha = 1 - t, beta = t: the interpolant of rectified flow and of every experiment here."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_beta(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return ratio / (1 + ratio)


@dataclass(frozen=True)
class Trigonometric(Interpolant):
    """alpha = cos(pi t / 2), beta = sin(pi t / 2): variance preserving."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(0.5 * math.pi * t)

    def beta(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * t)

    def d_alpha(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi * self.beta(t)

    def d_beta(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * self.alpha(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return torch.atan(ratio) * (2 / math.pi)
