"""Quadratic-exponential rewards and what they do to a Gaussian: the algebra behind every oracle.

r(x) = eta . x - x' Lambda x / 2 + c0 covers linear rewards (Lambda = 0), quadratic wells and
linear-Gaussian observations; the tilt of a Gaussian by e^r is again Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Quadratic:
    """r(x) = eta . x - x' Lambda x / 2 + c0 with Lambda symmetric positive semi-definite.

    Shapes: eta (d,), Lambda (d, d), c0 a float.
    """

    eta: Tensor
    Lambda: Tensor
    c0: float = 0.0

    def __iter__(self):  # type: ignore[no-untyped-def]  # unpacks as (eta, Lambda, c0)
        return iter((self.eta, self.Lambda, self.c0))

    def __call__(self, x: Tensor) -> Tensor:
        """r of every row of x (..., d), differentiable."""
        eta, curvature = self.eta.to(x), self.Lambda.to(x)
        return x @ eta - 0.5 * (x * (x @ curvature)).sum(-1) + self.c0

    @property
    def highest(self) -> float | None:
        """max over x of r = c0 + eta' Lambda^+ eta / 2; None where r grows without end."""
        at = torch.linalg.pinv(self.Lambda, hermitian=True) @ self.eta
        if not torch.allclose(self.Lambda @ at, self.eta, rtol=1e-6, atol=1e-9):
            return None
        return self.c0 + 0.5 * float(self.eta @ at)

    def scaled(self, strength: float) -> Quadratic:
        """strength * r."""
        return Quadratic(strength * self.eta, strength * self.Lambda, strength * self.c0)

    def to(self, like: Tensor) -> Quadratic:
        """The same reward in the dtype and on the device of `like`."""
        return Quadratic(self.eta.to(like), self.Lambda.to(like), self.c0)


def linear(a: Tensor) -> Quadratic:
    """r(x) = a . x."""
    return Quadratic(a, torch.zeros(len(a), len(a), dtype=a.dtype))


def well(center: Tensor, curvature: float) -> Quadratic:
    """r(x) = -(curvature / 2) |x - center|^2."""
    eye = torch.eye(len(center), dtype=center.dtype)
    return Quadratic(
        curvature * center, curvature * eye, -0.5 * curvature * float(center.square().sum())
    )


def observation(matrix: Tensor, y: Tensor, noise_covariance: Tensor) -> Quadratic:
    """r(x) = log N(y; A x, R), normalised, for A (m, d), y (m,), R (m, m)."""
    precision_a = torch.linalg.solve(noise_covariance, matrix)
    weighted_y = torch.linalg.solve(noise_covariance, y)
    log_det = torch.logdet(2 * math.pi * noise_covariance)
    c0 = -0.5 * float(y @ weighted_y) - 0.5 * float(log_det)
    return Quadratic(matrix.T @ weighted_y, matrix.T @ precision_a, c0)


@dataclass(frozen=True)
class Tilt:
    """Effect of e^r on N(m, C): zeta = log E e^(r - c0), new mean m' and covariance C'.

    Also the gradient of zeta in m, which the closed-form value gradient needs.
    """

    zeta: Tensor
    mean: Tensor
    covariance: Tensor
    d_mean: Tensor


def tilt_gaussian(mean: Tensor, covariance: Tensor, reward: Quadratic) -> Tilt:
    """Tilt N(mean, covariance) by e^r; batched, never inverts a covariance (which may be singular).

    C' = (I + C Lambda)^-1 C,  m' = m + C' g,  g = eta - Lambda m,
    zeta = eta.m - m'Lambda m/2 + g'C'g/2 - log det(I + C Lambda)/2,  d zeta/dm = g - Lambda C' g.
    mean is (..., d) and covariance (..., d, d), broadcast against each other.
    """
    eta, curvature, _ = reward.to(mean)
    system = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device) + (
        covariance @ curvature
    )
    tilted = torch.linalg.solve(system, covariance)
    slope = eta - mean @ curvature
    push = (tilted @ slope.unsqueeze(-1)).squeeze(-1)
    zeta = mean @ eta - 0.5 * (mean * (mean @ curvature)).sum(-1)
    zeta = zeta + 0.5 * (slope * push).sum(-1) - 0.5 * torch.linalg.slogdet(system).logabsdet
    return Tilt(zeta, mean + push, tilted, slope - push @ curvature)
