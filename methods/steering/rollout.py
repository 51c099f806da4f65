"""Steering by nested rollouts of the base model."""

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
    sampler_param,
)


@dataclass(frozen=True)
class RolloutParams(EstimatedSteeringParams):
    """Nested rollouts: GLASS or SDE draws of the base model."""

    posterior: str = sampler_param("glass", only=("glass", "glass-heun", "sde"), searched=True)
    inner_steps: int = param(4, low=1, high=1000, help="steps inside one draw")
    estimator: str = named_param("GF", ESTIMATORS, only=("G", "GF"), searched=True)


class Rollout(EstimatedSteering):
    """Nested rollouts: steer by posterior draws simulated with the base flow alone.

    GLASS flows (arXiv 2509.25170) or memoryless SDE rollouts, with G or GF.  Tends to the tilted
    law as draws, inner steps and steps grow; biased O(1/N) and by the inner discretisation, which
    GF feels more than G: Euler steps make draws too narrow, O(1/M), Heun's O(1/M^2).
    Cost per sample, M inner steps: K (1 + N (M - 1) + N) for GF; for G the backward of the same.
    With glass-heun 2 M takes the place of M.
    """

    summary = "estimates the value gradient from nested rollouts of the base model"
    standing = "baseline"
    colour = "#009e73"
    Params = RolloutParams
    split: ClassVar[Mapping[str, Growth]] = {"draws": Growth(16, 0.5), "steps": Growth(8, 0.5)}

    @property
    def estimator(self) -> Estimator:
        return ESTIMATORS[self.params.estimator]
