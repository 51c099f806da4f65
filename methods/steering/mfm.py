"""Steering by one-step draws of a meta flow map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.api import (
    ESTIMATORS,
    EstimatedSteering,
    EstimatedSteeringParams,
    Estimator,
    Growth,
    named_param,
    param,
)


class MFMGradient(EstimatedSteering):
    """MFM-G: steer by the gradient of the log-mean-exp reward of one-step map draws.

    arXiv 2601.14430, Eq. 22: grad V = sum_i w_i J_i' grad r(X_i).  Bias O(1/N); with N = 1 it
    follows grad E[r].  Its variance grows with |grad r|^2: prefer MFM-GF for sharp likelihoods.
    Cost per sample: K + 4 N K paper-nfe.
    """

    summary = "value gradient through one-step posterior draws of a meta flow map"
    colour = "#0072b2"


PROPOSALS: Mapping[str, Estimator] = {
    "posterior": ESTIMATORS["GF"],
    "both": ESTIMATORS["shifted"],
}
"""From where the draws come: the posterior, or half of them from a shifted context."""

SPLITS: Mapping[str, Mapping[str, Growth]] = {
    "posterior": {"draws": Growth(20, 0.5), "steps": Growth(10, 0.5)},
    "both": {"draws": Growth(20, 0.5), "steps": Growth(11, 0.5)},
}
"""How a budget is shared; shifted draws do not collapse, and what is left is the steps' error."""


class MFMGradientFree(EstimatedSteering):
    """MFM-GF: steer by the self-normalised mean of one-step map draws; no reward gradient.

    arXiv 2601.14430, Eq. 20 with the plain mean as control variate; N = 1 is the base model.
    Bias O(1/N), and the weights collapse when e^r varies much over the posterior.  With
    proposal=both half of the draws come from the context that the reward's expansion at the
    denoiser shifts x to (`bench.loops.shifted_draws`): at the floor at any tilt where the reward is
    nearly quadratic over the posterior, for two reward gradients a step.
    Cost per sample: K + 2 N K paper-nfe, and 4 K more with proposal=both.
    """

    version = "3"
    summary = "gradient-free: reweights one-step posterior draws of a meta flow map"
    colour = "#56b4e9"

    @dataclass(frozen=True)
    class Params(EstimatedSteeringParams):
        """As MFM-G; a single draw would be the base model."""

        draws: int = param(2, low=1, high=4096, log=True, help="posterior draws N per step")
        proposal: str = named_param("posterior", PROPOSALS)

    split: ClassVar[Mapping[str, Growth]] = SPLITS["posterior"]

    def growths(self) -> Mapping[str, Growth]:
        return SPLITS[self.params.proposal]

    @property
    def estimator(self) -> Estimator:
        return PROPOSALS[self.params.proposal]
