"""DPS under every normalisation in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import (
    SCALES,
    EstimatedSteering,
    PosteriorChoice,
    ProblemSpec,
    SteeringParams,
    named_param,
    param,
    scale_is_safe,
)


@dataclass(frozen=True)
class DPSParams(SteeringParams):
    """DPS under every normalisation in use; `bench.core.scales` has the formulas."""

    search: ClassVar[dict[str, Any]] = {
        **SteeringParams.search,
        "size": {"when": {"scale": ["clip-norm", "fixed-norm"]}},
    }

    scale: str = named_param("exact", SCALES, "c is guidance", searched=True)
    size: float = param(
        1.0, low=1e-6, high=1e4, log=True, help="norm of the gradient in clip-norm and fixed-norm"
    )
    best: float = param(
        0.0, tunable=False, help="largest value of strength * reward, for the residual scales"
    )
    measurements: int = param(1, low=1, tunable=False, help="m of residual-mean")


class DPS(EstimatedSteering):
    """Diffusion posterior sampling: steer by the reward's gradient at the Tweedie point.

    Chung et al. 2023 (arXiv 2209.14687), on flows: V_t(x) is taken for r(D_t(x)), so the drift is
    b + (sigma^2/2) J_D' grad r(D).  Exact only for a Gaussian posterior and a linear reward; biased
    otherwise, at any number of steps.  `scale` has the normalisations that implementations put in
    the place of sigma^2/2; every one but "exact" leaves the tilted law even there.
    Cost per sample: K (flow forward + backward + reward forward + backward) = 4 K paper-nfe.
    """

    summary = "steers by the reward's gradient at the Tweedie point E[x₁ | xₜ]"
    standing = "baseline"
    caveat = (
        "it puts the Tweedie point E[x₁ | xₜ], a single average, in the place of the posterior, "
        "and so takes r(E[x₁ | xₜ]) for the value log E[exp r(x₁) | xₜ]. For a reward that is not "
        "linear this is biased, regardless of compute"
    )
    colour = "#d55e00"
    Params = DPSParams
    effort = ("steps",)

    @property
    def choice(self) -> PosteriorChoice:
        return PosteriorChoice("tweedie")

    @property
    def draws(self) -> int:
        return 1

    def searchable(self, spec: ProblemSpec) -> bool:
        return scale_is_safe(self.params, spec.highest)
