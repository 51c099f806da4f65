"""The steered drift and its scaling, written once.

b^r = b + g with g = (sigma^2/2) grad V = tilt(D^r - D).  For the SDE at noise level c = variance /
sigma^2 the drift is b + g + c (sigma^2/2)(score + grad V) = b + g + c (b - (beta'/beta) x + g), so
that the marginals are p_t e^{V_t} / Z for every c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.core.integrate import ancestral, euler_maruyama
from bench.core.interpolant import Interpolant, expand, safe

Scale = Literal["exact", "rescale", "clip"]
Numerics = Literal["regular", "release"]
Integrator = Literal["ode", "sde", "ancestral"]

RELEASE_CAP = 25.0
"""The cap on (1 - t)/t in the release of arXiv 2601.14430; it biases the ODE."""


def guidance_factor(interpolant: Interpolant, t: Tensor, numerics: Numerics) -> Tensor:
    """sigma_t^2 / 2, the factor of grad V in the ODE; capped only to reproduce the release."""
    factor = interpolant.half_variance(t)
    return factor.clamp(max=RELEASE_CAP) if numerics == "release" else factor


def scaled(g: Tensor, b: Tensor, rule: Scale, guidance: float) -> Tensor:
    """The steering term under a scaling rule, per sample.

    exact: guidance * g.  rescale: norm guidance * |b|.  clip: norm at most guidance * |b|.
    Only "exact" with guidance = 1 aims at the tilted law (arXiv 2601.14430, F.3.6).
    """
    if rule == "exact":
        return guidance * g
    norm_g, norm_b = _norm(g), guidance * _norm(b)
    ratio = norm_b / norm_g.clamp(min=torch.finfo(g.dtype).tiny)
    return g * ratio if rule == "rescale" else g * ratio.clamp(max=1.0)


def _norm(x: Tensor) -> Tensor:
    return expand(x.flatten(1).norm(dim=1), x)


@dataclass(frozen=True)
class SteeredStep:
    """One time step of the steered process.

    integrator: "ode" (Euler), "sde" (Euler-Maruyama at `noise_level` times the memoryless
    variance) or "ancestral" (the memoryless SDE's exact-in-the-denoiser step).
    In the SDE the variance is capped at 1 / dt, in drift and noise alike, which keeps the
    marginals and the stability; numerics = "release" caps as the release does, noise and guidance
    but not the base drift.
    """

    interpolant: Interpolant
    integrator: Integrator = "ode"
    numerics: Numerics = "regular"
    noise_level: float = 1.0

    def __call__(self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        """The state at u, from x at t with base velocity b, steering term g and normals z."""
        if self.integrator == "ode":
            return x + expand(u - t, x) * (b + g)
        if self.integrator == "ancestral":
            tilted = self.interpolant.denoiser(b + g, x, t)
            return ancestral(self.interpolant, x, tilted, t, u, z)
        return self._euler_maruyama(x, b, g, t, u, z)

    def _euler_maruyama(
        self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor
    ) -> Tensor:
        half = self.interpolant.half_variance(t)
        growth = self.interpolant.d_beta(t) / safe(self.interpolant.beta(t))
        if self.numerics == "release":
            drift = 2 * b - expand(growth, x) * x + 2 * g
            return euler_maruyama(x, drift, 2 * half.clamp(max=RELEASE_CAP), u - t, z)
        allowed = (0.5 / (u - t)).clamp(min=0)
        level = (self.noise_level * half).minimum(allowed) / half.clamp(min=1e-12)
        drift = b + g + expand(level, x) * (b - expand(growth, x) * x + g)
        return euler_maruyama(x, drift, 2 * level * half, u - t, z)
