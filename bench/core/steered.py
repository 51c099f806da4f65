"""The steered drift and its scaling, written once.

b^r = b + g with g = (sigma^2/2) grad V = tilt(D^r - D).  For the SDE at noise level c = variance /
sigma^2 the drift is b + g + c (sigma^2/2)(score + grad V) = b + g + c (b - (beta'/beta) x + g), so
that the marginals are p_t e^{V_t} / Z for every c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from bench.core.integrate import ancestral, euler_maruyama
from bench.core.params import UserError
from bench.core.paths import Interpolant, expand, safe

Numerics = Literal["regular", "release"]
Integrator = Literal["ode", "sde", "ancestral"]

RELEASE_CAP = 25.0
"""The cap on (1 - t)/t in the release of arXiv 2601.14430; it biases the ODE."""


def guidance_factor(interpolant: Interpolant, t: Tensor, numerics: Numerics) -> Tensor:
    """sigma_t^2 / 2, the factor of grad V in the ODE; capped only to reproduce the release."""
    factor = interpolant.half_variance(t)
    return factor.clamp(max=RELEASE_CAP) if numerics == "release" else factor


# -- scaling --------------------------------------------------------------------------------------

DriftScale = Literal["exact", "rescale", "clip", "freedom"]
"""Rules that look at the steering term and the base velocity alone: any method can use them."""

GradientScale = Literal[
    "value", "residual", "residual-mean", "sqrt-alpha-bar", "clip-norm", "fixed-norm"
]
"""Rules that weigh grad V itself and replace its factor sigma^2 / 2."""

Scale = Literal[DriftScale, GradientScale]

DRIFT_SCALES: tuple[DriftScale, ...] = get_args(DriftScale)
GRADIENT_SCALES: tuple[GradientScale, ...] = get_args(GradientScale)

FREEDOM_STEP = 0.2
"""FreeDoM's step in units of its reference (0.08 for some of its tasks)."""


class Term(NamedTuple):
    """What one step steers with, (batch, *event): base velocity b and g = (sigma^2/2) grad V.

    info: diagnostics.  gradient, value: grad V and V (batch,), where the estimate has them.
    """

    b: Tensor
    g: Tensor
    info: dict[str, float]
    gradient: Tensor | None = None
    value: Tensor | None = None


def norm(x: Tensor) -> Tensor:
    """Euclidean norm of every sample, (batch,)."""
    length: Tensor = x.flatten(1).norm(dim=1)
    return length


def _times(ratio: Tensor, g: Tensor) -> Tensor:
    return expand(ratio, g) * g


def _to_norm(target: Tensor, g: Tensor) -> Tensor:
    """target / |g|, (batch,), finite where g vanishes."""
    limits = torch.finfo(g.dtype)
    return (target / norm(g).clamp(min=limits.tiny)).clamp(max=limits.max)


def limited(g: Tensor, most: Tensor) -> Tensor:
    """g with a norm of at most `most` (batch,)."""
    return _times(_to_norm(most, g).clamp(max=1.0), g)


def scaled(g: Tensor, b: Tensor, rule: DriftScale, guidance: float) -> Tensor:
    """The steering term under a rule that looks at b, per sample.

    exact: guidance * g.  rescale: norm guidance * |b|.  clip: norm at most guidance * |b|.
    freedom: norm guidance * 0.2 |b|.
    Only "exact" with guidance = 1 aims at the tilted law (arXiv 2601.14430, F.3.6).
    """
    if rule == "exact":
        return guidance * g
    target = guidance * norm(b) * (FREEDOM_STEP if rule == "freedom" else 1.0)
    return limited(g, target) if rule == "clip" else _times(_to_norm(target, g), g)


@dataclass(frozen=True)
class Scaling:
    """The steering term of the drift b + w grad V under one of the rules in use, per sample.

    With c = `guidance`, h = sigma_t^2 / 2, G = grad V, all per unit of flow time:

    exact           c h G                            the tilted law for c = 1
    rescale, clip   norm c |b|, at most c |b|        arXiv 2601.14430, F.3.6
    freedom         norm 0.2 c |b|                   FreeDoM, 2303.09833; its reference is the CFG
                                                     correction, which a flow without CFG lacks
    sqrt-alpha-bar  c beta / sqrt(alpha^2 + beta^2) G   FreeDoM where there is no CFG
    value           c G / |V|                        TFG's DPS, 2409.15761; RBF, 2503.19385
    residual        c G / sqrt(2 (best - V))         DPS, 2209.14687, as released; c = 0.3 to 1
    residual-mean   c G / (2 sqrt(2 m (best - V)))   deepinv, m = `measurements`
    clip-norm       c min(8 sigma^2, 10) G, |G| at most `size`, for 0.01 <= t <= 0.95: dMFM
    fixed-norm      c h G, |G| = `size`              Psi-Sampler: 4e-4

    For a Gaussian likelihood V = best - |y - A D|^2 / (2 s^2), so that "residual" follows the
    gradient of the norm |y - A D| / s and "exact" that of half its square.  Papers that add c per
    step, K steps, add c K per unit of time.
    """

    rule: Scale = "exact"
    guidance: float = 1.0
    size: float = 1.0
    best: float = 0.0
    measurements: int = 1

    def __call__(self, term: Term, interpolant: Interpolant, t: Tensor) -> Tensor:
        """The scaled steering term, shape of term.g.

        Raises UserError if "residual" meets a value above `best`.
        """
        if self.rule in DRIFT_SCALES:
            return scaled(term.g, term.b, self.rule, self.guidance)
        gradient, value = term.gradient, term.value
        if gradient is None or value is None:
            raise UserError(f"scale={self.rule} needs an estimate by gradients: use another scale")
        weights: dict[str, Callable[[], Tensor]] = {
            "value": lambda: 1 / safe(value.abs()),
            "residual": lambda: 1 / self._residual(value),
            "residual-mean": lambda: 0.5 / (math.sqrt(self.measurements) * self._residual(value)),
            "sqrt-alpha-bar": lambda: signal_level(interpolant, t),
            "clip-norm": lambda: self._clipped(gradient, interpolant, t),
            "fixed-norm": lambda: interpolant.half_variance(t) * self._sized(gradient),
        }
        return _times(self.guidance * weights[self.rule](), gradient)

    def _residual(self, value: Tensor) -> Tensor:
        """|y - A D| / s of the likelihood whose value this is."""
        over, rounding = float(value.max()), 1e-5 * max(1.0, abs(self.best))
        if over > self.best + rounding:
            raise UserError(
                f"scale={self.rule} takes the root of best - value, and met a value of {over:g} "
                f"above best = {self.best:g}: set best to the largest value of strength * reward"
            )
        return safe((2 * (self.best - value)).clamp(min=0).sqrt())

    def _sized(self, gradient: Tensor) -> Tensor:
        return _to_norm(torch.full_like(gradient.flatten(1)[:, 0], self.size), gradient)

    def _clipped(self, gradient: Tensor, interpolant: Interpolant, t: Tensor) -> Tensor:
        weight = (16 * interpolant.half_variance(t)).clamp(max=10.0)
        active = (t >= 0.01) & (t <= 0.95)
        return weight * active * self._sized(gradient).clamp(max=1.0)


def signal_level(interpolant: Interpolant, t: Tensor) -> Tensor:
    """sqrt(alpha-bar) = beta / sqrt(alpha^2 + beta^2), (batch,): the signal at unit variance."""
    alpha, beta = interpolant.alpha(t), interpolant.beta(t)
    return beta / (alpha**2 + beta**2).sqrt()


# -- steps ----------------------------------------------------------------------------------------


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
