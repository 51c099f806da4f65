"""Shifted contexts: the posterior family is closed under quadratic tilts.

    p(x1 | x_t = x) e^(c.x1 - kappa |x1|^2 / 2)  is proportional to  p(x1 | x_t' = x')

with (beta'/alpha')^2 = (beta/alpha)^2 + kappa and (beta'/alpha'^2) x' = (beta/alpha^2) x + c:
a context says of x1 no more than (beta/alpha^2) x.x1 - (beta/alpha)^2 |x1|^2 / 2.  So a sampler of
posteriors also draws every quadratic tilt of them, at the same price: draw at (x', t') and weigh
by e^(r(x1) - c.x1 + kappa |x1|^2 / 2).  For a linear or isotropic quadratic reward the weights are
constant and the draws are those of the tilted posterior.

A learned sampler knows contexts x' ~ p_t' only: far from them the identity holds for a sampler that
nobody trained, which the distance to the exact sampler's result shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.paths import Interpolant, expand, safe


@dataclass(frozen=True)
class Tilt:
    """e^(c.x1 - kappa |x1|^2 / 2): c (batch, *event), kappa (batch,) and at least 0."""

    c: Tensor
    kappa: Tensor

    def log(self, x1: Tensor) -> Tensor:
        """c.x1 - kappa |x1|^2 / 2 of x1 (..., batch, *event), (..., batch)."""
        flat, slope = x1.flatten(1 - self.c.dim()), self.c.flatten(1)
        return (slope * flat).sum(-1) - 0.5 * self.kappa * flat.square().sum(-1)

    @staticmethod
    def joined(parts: Sequence[Tilt]) -> Tilt:
        """The rows of all parts."""
        return Tilt(torch.cat([p.c for p in parts]), torch.cat([p.kappa for p in parts]))

    def context(self, interpolant: Interpolant, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(x', t') of the shifted posterior, from x (batch, *event) at t (batch,)."""
        ratio = interpolant.beta(t) / safe(interpolant.alpha(t))
        t_new = interpolant.time_of_ratio((ratio**2 + self.kappa).sqrt())
        weight = ratio / safe(interpolant.alpha(t))
        natural = expand(weight, x) * x + self.c
        scale = interpolant.alpha(t_new) ** 2 / safe(interpolant.beta(t_new))
        return expand(scale, x) * natural, t_new


RIDGE = 1e-3
"""Ridge of the regression, on standardised columns."""


@dataclass(frozen=True)
class FittedTilt:
    """A tilt common to all rows: c (*event), kappa (), and its share of the rewards' variance."""

    c: Tensor
    kappa: Tensor
    explained: float

    def over(self, rows: int) -> Tilt:
        """The same tilt for `rows` rows."""
        return Tilt(self.c.expand(rows, *self.c.shape), self.kappa.expand(rows))

    @property
    def none(self) -> FittedTilt:
        """No tilt, in the same shape."""
        return FittedTilt(torch.zeros_like(self.c), torch.zeros_like(self.kappa), 0.0)


def fit_tilt(x1: Tensor, reward: Tensor) -> FittedTilt:
    """Least squares of r(x1) on a + c.x1 - kappa |x1|^2 / 2 over a pool; needs no gradient.

    x1 (n, *event), reward (n,).  A negative kappa is taken for 0.
    """
    flat = x1.flatten(1).double()
    columns = torch.cat([flat, -0.5 * flat.square().sum(1, keepdim=True)], 1)
    scale = columns.std(0, correction=0).clamp(min=1e-12)
    centred, r = (columns - columns.mean(0)) / scale, reward.double() - reward.double().mean()
    slope = _ridge(centred, r)
    left = (r - centred @ slope).square().mean() / r.square().mean().clamp(min=1e-300)
    slope = slope / scale
    c, kappa = slope[:-1].reshape(x1.shape[1:]).to(x1), slope[-1].clamp(min=0).to(x1)
    return FittedTilt(c, kappa, 1 - float(left))


def _ridge(columns: Tensor, r: Tensor) -> Tensor:
    """argmin |r - columns w|^2 / n + RIDGE |w|^2, from the smaller of the two Gram matrices."""
    n, width = columns.shape
    if width <= n:
        slope: Tensor = torch.linalg.solve(_damped(columns.T @ columns / n), columns.T @ r / n)
        return slope
    dual: Tensor = torch.linalg.solve(_damped(columns @ columns.T / n), r / n)
    return columns.T @ dual


def _damped(gram: Tensor) -> Tensor:
    return gram + RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
