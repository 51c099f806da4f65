"""LGD-MC: DPS with a Gaussian in the place of the Tweedie point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from bench.api import (
    ESTIMATORS,
    GAUSSIAN_WIDTHS,
    EstimatedSteering,
    Estimator,
    Growth,
    PosteriorChoice,
    named_param,
    param,
)
from methods.steering.dps import DPSParams

AVERAGES: Mapping[str, Estimator] = {"value": ESTIMATORS["G"], "reward": ESTIMATORS["mean"]}
"""What is averaged over draws: e^r before the gradient, or the gradients (InverseBench)."""


@dataclass(frozen=True)
class LGDParams(DPSParams):
    """DPS with a Gaussian around the Tweedie point."""

    draws: int = param(10, low=1, high=4096, log=True, help="Gaussian draws N per step")
    spread: float = param(
        1.0, low=0.0, high=10.0, help="factor on the deviation; TFG ships 0.1 and 0.001"
    )
    width: str = named_param("signal", GAUSSIAN_WIDTHS, "deviation of the draws")
    average: str = named_param("value", AVERAGES)


class LGDMC(EstimatedSteering):
    """LGD-MC: steer by the log-mean-exp reward of Gaussian draws around the Tweedie point.

    Song et al. 2023 (ICML, Loss-Guided Diffusion): the posterior is taken for N(D_t(x), s_t^2 I),
    and grad V for grad log (1/N) sum_j e^(r(D + s_t e_j)).  Exact for a Gaussian posterior with
    that covariance as N and K grow, for any reward; else biased by the wrong covariance, and by
    O(1/N).  `average=reward` follows the gradient of the mean reward instead, as InverseBench does:
    for a quadratic reward that is DPS.  TFG's release divides the first by N once more: guidance =
    1/N.  Cost per sample: K (flow forward + backward + N reward forwards + backwards) = 2 K (N + 1)
    paper-nfe.
    """

    summary = "DPS with Gaussian draws around the Tweedie point"
    standing = "baseline"
    Params = LGDParams
    effort = ("steps", "draws")
    split: ClassVar[Mapping[str, Growth]] = {
        "steps": Growth(16, 0),
        "draws": Growth(10, 1, most=16),
    }

    @property
    def estimator(self) -> Estimator:
        return AVERAGES[self.params.average]

    @property
    def choice(self) -> PosteriorChoice:
        return PosteriorChoice("gaussian", spread=self.params.spread, width=self.params.width)
