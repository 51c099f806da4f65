"""Twisted diffusion: particles that are steered, and corrected by their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import ESTIMATORS, ParticleMethod, ParticleParams, UserError, named_param


@dataclass(frozen=True)
class TwistedParams(ParticleParams):
    """The gradient that shifts the proposal; the papers' is G at the Tweedie point."""

    estimator: str = named_param("G", ESTIMATORS, only=("G", "GF"), tunable=False)


class Twisted(ParticleMethod):
    """Particles whose proposal follows the value's gradient."""

    Params: ClassVar[type[Any]] = TwistedParams
    twisted = True

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if self.gradient_free and self.draws < 2:
            raise UserError(
                "estimator=GF learns from how posterior draws differ: take draws of 2 or more and "
                "a posterior other than tweedie and jump, such as posterior=map,draws=16"
            )

    @property
    def gradient_free(self) -> bool:
        return not ESTIMATORS[self.params.estimator].gradient


class TDS(Twisted):
    """Twisted diffusion sampler: steer every particle by the reward's gradient, then correct.

    Wu et al. 2023 (arXiv 2306.17775), Algorithm 1: twist psi_t = e^r(D_t), proposal mean shifted by
    variance * grad log psi, weights p psi' / (q psi).  Assumes a differentiable reward; exact for
    the chain of K steps as P grows, with an unbiased estimate of Z; at small P biased towards DPS.
    Cost per sample: P (K flow + K reward forwards + (K - 1) backwards of each); with another
    posterior the K - 1 values before the last cost its draws and their rewards instead, without
    backwards where `estimator` is GF: the way to go where r is sharper than the posterior.
    """

    summary = "particles steered by the reward's gradient, with weights that correct for it"
    standing = "baseline"
