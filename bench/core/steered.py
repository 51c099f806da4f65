"""One time step of the steered process, as values.

b^r = b + g with g = (sigma^2/2) grad V = tilt(D^r - D).  For the SDE at noise level c = variance /
sigma^2 the drift is b + g + c (sigma^2/2)(score + grad V) = b + g + c (b - (beta'/beta) x + g), so
that the marginals are p_t e^{V_t} / Z for every c.  `bench.core.scales` says how long g is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from bench.core.integrate import NARROW, WIDE, StepVariance, ancestral, euler_maruyama
from bench.core.paths import Interpolant, expand, safe

RELEASE_CAP = 25.0
"""The cap on (1 - t)/t in the release of arXiv 2601.14430; it biases the ODE."""


class SteeredStep(Protocol):
    """A time step; `noisy` says whether it uses its normals."""

    noisy: ClassVar[bool]

    def __call__(self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        """The state at u, from x at t with base velocity b, steering term g and normals z."""
        ...


@dataclass(frozen=True)
class OdeStep:
    """Euler: x + (u - t) (b + g)."""

    interpolant: Interpolant
    noisy: ClassVar[bool] = False

    def __call__(self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return x + expand(u - t, x) * (b + g)


@dataclass(frozen=True)
class AncestralStep:
    """The memoryless SDE's step around the denoiser, here D^r, with the variance of `variance`."""

    interpolant: Interpolant
    variance: StepVariance = NARROW
    noisy: ClassVar[bool] = True

    def __call__(self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        tilted = self.interpolant.denoiser(b + g, x, t)
        return ancestral(self.interpolant, x, tilted, t, u, z, self.variance)


@dataclass(frozen=True)
class SdeStep:
    """Euler-Maruyama at `noise_level` times the memoryless variance.

    The variance is capped at 1 / dt, in drift and noise alike, which keeps the marginals and the
    stability.
    """

    interpolant: Interpolant
    noise_level: float = 1.0
    noisy: ClassVar[bool] = True

    def __call__(self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        half = self.interpolant.half_variance(t)
        growth = self.interpolant.d_beta(t) / safe(self.interpolant.beta(t))
        allowed = (0.5 / (u - t)).clamp(min=0)
        level = (self.noise_level * half).minimum(allowed) / half.clamp(min=1e-12)
        drift = b + g + expand(level, x) * (b - expand(growth, x) * x + g)
        return euler_maruyama(x, drift, 2 * level * half, u - t, z)


@dataclass(frozen=True)
class ReleasedSdeStep:
    """Euler-Maruyama as in the release, which caps noise and guidance but not the base drift."""

    interpolant: Interpolant
    noisy: ClassVar[bool] = True

    def __call__(self, x: Tensor, b: Tensor, g: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        half = self.interpolant.half_variance(t)
        growth = self.interpolant.d_beta(t) / safe(self.interpolant.beta(t))
        drift = 2 * b - expand(growth, x) * x + 2 * g
        return euler_maruyama(x, drift, 2 * half.clamp(max=RELEASE_CAP), u - t, z)


# -- by name --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numerics:
    """What is done where sigma_t^2 is large.

    cap: the largest factor of grad V.  sde: (interpolant, noise level) -> the SDE's step.
    """

    summary: str
    cap: float
    sde: Callable[[Interpolant, float], SteeredStep]


NUMERICS: Mapping[str, Numerics] = {
    "regular": Numerics("stable steps that keep the marginals", math.inf, SdeStep),
    "release": Numerics(
        "reproduces the cap on (1-t)/t", RELEASE_CAP, lambda i, _: ReleasedSdeStep(i)
    ),
}


@dataclass(frozen=True)
class Integrator:
    """(interpolant, numerics, noise level) -> the step."""

    summary: str
    step: Callable[[Interpolant, Numerics, float], SteeredStep]


INTEGRATORS: Mapping[str, Integrator] = {
    "ode": Integrator("Euler", lambda i, *_: OdeStep(i)),
    "sde": Integrator("Euler-Maruyama", lambda i, numerics, level: numerics.sde(i, level)),
    "ancestral": Integrator(
        "the memoryless chain, with the variance of unit data", lambda i, *_: AncestralStep(i, WIDE)
    ),
    "ancestral-narrow": Integrator(
        "without the variance of x1, exact for a constant denoiser",
        lambda i, *_: AncestralStep(i, NARROW),
    ),
}


def steered_step(
    integrator: str, interpolant: Interpolant, numerics: str = "regular", noise_level: float = 1.0
) -> SteeredStep:
    """The named step."""
    return INTEGRATORS[integrator].step(interpolant, NUMERICS[numerics], noise_level)


def guidance_factor(interpolant: Interpolant, t: Tensor, numerics: str) -> Tensor:
    """sigma_t^2 / 2, the factor of grad V in the ODE; capped only to reproduce the release."""
    return interpolant.half_variance(t).clamp(max=NUMERICS[numerics].cap)
