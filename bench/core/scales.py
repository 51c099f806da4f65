"""How long the steering term is: the rules in use, as values with the constants that they need.

A rule maps what one step steers with to the term w grad V of the drift b + w grad V, per sample.
With c = `guidance`, h = sigma_t^2 / 2, G = grad V, all per unit of flow time:

exact           c h G                               the tilted law for c = 1
rescale, clip   norm c |b|, at most c |b|
freedom         norm 0.2 c |b|
sqrt-alpha-bar  c beta / sqrt(alpha^2 + beta^2) G
value           c G / |V|
residual        c G / sqrt(2 (best - V))
residual-mean   c G / (2 sqrt(2 m (best - V)))      m = `measurements`
clip-norm       c min(8 sigma^2, 10) G, |G| at most `size`, for 0.01 <= t <= 0.95
fixed-norm      c h G, |G| = `size`

For a Gaussian likelihood V = best - |y - A D|^2 / (2 s^2), so that "residual" follows the gradient
of the norm |y - A D| / s and "exact" that of half its square.  Papers that add c per step, K steps,
add c K per unit of time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.core.paths import Interpolant, expand, safe
from bench.core.watch import Scalars, when_known

FREEDOM_STEP = 0.2
"""FreeDoM's step in units of its reference (0.08 for some of its tasks)."""


class SteeringTerm(NamedTuple):
    """What one step steers with, (batch, *event): base velocity b and g = (sigma^2/2) grad V.

    info: diagnostics.  gradient, value: grad V and V (batch,), where the estimate has them.
    """

    b: Tensor
    g: Tensor
    info: Scalars
    gradient: Tensor | None = None
    value: Tensor | None = None


class ScaleRule(Protocol):
    """A rule for the length of the steering term."""

    def __call__(self, term: SteeringTerm, interpolant: Interpolant, t: Tensor) -> Tensor:
        """The scaled steering term, shape of term.g."""
        ...


def event_norm(x: Tensor) -> Tensor:
    """Euclidean norm of every sample, (batch,)."""
    length: Tensor = x.flatten(1).norm(dim=1)
    return length


def _times(ratio: Tensor, g: Tensor) -> Tensor:
    return expand(ratio, g) * g


def _to_norm(target: Tensor, g: Tensor) -> Tensor:
    """target / |g|, (batch,), finite where g vanishes."""
    limits = torch.finfo(g.dtype)
    return (target / event_norm(g).clamp(min=limits.tiny)).clamp(max=limits.max)


def limited(g: Tensor, most: Tensor) -> Tensor:
    """g with a norm of at most `most` (batch,)."""
    return _times(_to_norm(most, g).clamp(max=1.0), g)


def signal_level(interpolant: Interpolant, t: Tensor) -> Tensor:
    """sqrt(alpha-bar) = beta / sqrt(alpha^2 + beta^2), (batch,): the signal at unit variance."""
    alpha, beta = interpolant.alpha(t), interpolant.beta(t)
    return beta / (alpha**2 + beta**2).sqrt()


# -- rules that look at the steering term and the base velocity alone: any method can use them ----


@dataclass(frozen=True)
class ExactScale:
    """c g, the tilted law for c = 1 (arXiv 2601.14430)."""

    guidance: float = 1.0

    def __call__(self, term: SteeringTerm, interpolant: Interpolant, t: Tensor) -> Tensor:
        return self.guidance * term.g


@dataclass(frozen=True)
class Rescale:
    """To the norm c |b| (2601.14430 F.3.6)."""

    guidance: float = 1.0
    unit: ClassVar[float] = 1.0

    def __call__(self, term: SteeringTerm, interpolant: Interpolant, t: Tensor) -> Tensor:
        target = self.guidance * event_norm(term.b) * self.unit
        return _times(_to_norm(target, term.g), term.g)


class FreeDoMScale(Rescale):
    """To the norm 0.2 c |b| (FreeDoM, 2303.09833).

    Its reference is the CFG correction, which a flow without CFG lacks.
    """

    unit = FREEDOM_STEP


@dataclass(frozen=True)
class Clip:
    """To a norm of at most c |b| (2601.14430 F.3.6)."""

    guidance: float = 1.0

    def __call__(self, term: SteeringTerm, interpolant: Interpolant, t: Tensor) -> Tensor:
        return limited(term.g, self.guidance * event_norm(term.b))


# -- rules that weigh grad V itself and replace its factor sigma^2 / 2 ----------------------------


@dataclass(frozen=True)
class WeightedGradient:
    """c w G; subclasses give the weight w."""

    guidance: float = 1.0

    @property
    def name(self) -> str:
        """Its name in the table."""
        return next(name for name, rule in SCALES.items() if rule is type(self))

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        """w (batch,) from grad V (batch, *event), V (batch,) and the time."""
        raise NotImplementedError

    def __call__(self, term: SteeringTerm, interpolant: Interpolant, t: Tensor) -> Tensor:
        """Raises UserError where the estimate has no gradient."""
        if term.gradient is None or term.value is None:
            raise UserError(f"scale={self.name} needs an estimate by gradients: use another scale")
        weight = self.weight(term.gradient, term.value, interpolant, t)
        return _times(self.guidance * weight, term.gradient)


class ByValue(WeightedGradient):
    """By 1 / |r| (TFG's DPS, 2409.15761; RBF, 2503.19385; c = 1)."""

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        return 1 / safe(v.abs())


@dataclass(frozen=True)
class ByResidual(WeightedGradient):
    """The gradient of the norm, not of its square (DPS, 2209.14687, as released; c = 0.3 to 1)."""

    best: float = 0.0

    def residual(self, value: Tensor) -> Tensor:
        """|y - A D| / s of the likelihood whose value this is.

        Raises UserError if a value is above `best`.
        """
        when_known(value.max(), self._refuse_above)
        return safe((2 * (self.best - value)).clamp(min=0).sqrt())

    def _refuse_above(self, over: float) -> None:
        if over > self.best + self._rounding:
            raise UserError(
                f"scale={self.name} takes the root of best - value, and met a value of {over:g} "
                f"above best = {self.best:g}: set best to the largest value of strength * reward"
            )

    def bounds(self, highest: float | None) -> bool:
        """Whether no value can be above `best`, for the largest value that there is, if known."""
        return highest is not None and highest <= self.best + self._rounding

    @property
    def _rounding(self) -> float:
        return 1e-5 * max(1.0, abs(self.best))

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        return 1 / self.residual(v)


@dataclass(frozen=True)
class ByMeanResidual(ByResidual):
    """The gradient of the root mean square, halved (deepinv, c = 1/(2 sqrt m))."""

    measurements: int = 1

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        return 0.5 / (math.sqrt(self.measurements) * self.residual(v))


class BySignalLevel(WeightedGradient):
    """By beta / sqrt(alpha^2 + beta^2) (FreeDoM where there is no CFG, c = 1)."""

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        return signal_level(i, t)


@dataclass(frozen=True)
class FixedNorm(WeightedGradient):
    """By sigma^2 / 2 after |grad V| = size (Psi-Sampler, size 4e-4)."""

    size: float = 1.0

    def sized(self, slope: Tensor) -> Tensor:
        """size / |grad V|, (batch,)."""
        return _to_norm(torch.full_like(slope.flatten(1)[:, 0], self.size), slope)

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        return i.half_variance(t) * self.sized(slope)


class ClippedNorm(FixedNorm):
    """By min(8 sigma^2, 10) after |grad V| at most size, for t in [0.01, 0.95] (dMFM)."""

    def weight(self, slope: Tensor, v: Tensor, i: Interpolant, t: Tensor) -> Tensor:
        weight = (16 * i.half_variance(t)).clamp(max=10.0)
        active = (t >= 0.01) & (t <= 0.95)
        return weight * active * self.sized(slope).clamp(max=1.0)


# -- by name --------------------------------------------------------------------------------------

DRIFT_SCALES: Mapping[str, type[Any]] = {
    "exact": ExactScale,
    "rescale": Rescale,
    "clip": Clip,
    "freedom": FreeDoMScale,
}

GRADIENT_SCALES: Mapping[str, type[Any]] = {
    "value": ByValue,
    "residual": ByResidual,
    "residual-mean": ByMeanResidual,
    "sqrt-alpha-bar": BySignalLevel,
    "clip-norm": ClippedNorm,
    "fixed-norm": FixedNorm,
}

SCALES: Mapping[str, type[Any]] = {**DRIFT_SCALES, **GRADIENT_SCALES}


def scale_of(params: Any) -> ScaleRule:
    """The rule that `params.scale` names, its fields being the parameters of the same names."""
    rule = SCALES[params.scale]
    scale: ScaleRule = rule(**{f.name: getattr(params, f.name) for f in fields(rule)})
    return scale


def scale_is_safe(params: Any, highest: float | None) -> bool:
    """Whether the rule that `params.scale` names meets no value that it must refuse.

    highest: the largest value of strength * reward, None where none is known.
    """
    rule = scale_of(params)
    return not isinstance(rule, ByResidual) or rule.bounds(highest)
