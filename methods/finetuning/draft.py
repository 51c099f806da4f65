"""DRaFT: fine-tuning by back-propagation of the reward through the last sampling steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    MeteredModule,
    Need,
    NoiseSource,
    ProblemSpec,
    Work,
    backward,
    forward,
    integrate,
    ode_step,
    param,
    reward_work,
)
from methods.finetuning.loop import FineTuned, FitParams, Losses

Truncation = Literal["fixed", "random"]

SPREAD = 0.1
"""Standard deviation of a random truncation, in units of the steps (AlignProp: 5 of 50)."""


@dataclass(frozen=True)
class DraftParams(FitParams):
    """How the training samples are made, and how far the gradient reaches back."""

    iterations: int = param(200, low=1, high=1_000_000, log=True, help="optimiser steps")
    batch: int = param(128, low=1, high=65536, log=True, help="samples per optimiser step")
    learning_rate: float = param(3e-4, low=1e-6, high=0.1, log=True, help="peak, Adam")
    fit_steps: int = param(20, low=1, high=1000, log=True, help="ODE steps per training sample")
    last: int = param(1, low=1, high=1000, log=True, help="last steps K that are differentiated")
    truncation: Truncation = param("fixed", help="last steps: fixed, or random around `last`")

    def __post_init__(self) -> None:
        if self.last > self.fit_steps:
            raise ValueError("last must be at most fit_steps")


def truncations(params: DraftParams, iterations: int) -> list[int]:
    """How many last steps each of the first iterations differentiates.

    A function of the parameters alone, so that the fit's work is known beforehand.
    """
    if params.truncation == "fixed" or not iterations:
        return [params.last] * iterations
    z = NoiseSource(params.fit_seed, "draft-k").normal("truncation", 0, (), range(iterations))
    drawn = params.last + SPREAD * params.fit_steps * z
    return [int(k) for k in drawn.round().clamp(1, params.fit_steps)]


class DraftK(FineTuned):
    """DRaFT-K: maximise the mean reward by gradients through the last K steps of the sampler.

    Clark et al. 2023 (arXiv 2309.17400); random truncation: AlignProp (arXiv 2310.03739).  Nothing
    holds it to the base model but early stopping: biased to high reward, at the end to the reward's
    maxima and to no diversity; small K leaves the early steps, and so the choice of mode, alone.
    Fit per sample: fit_steps flow forwards, K backwards, one reward forward and backward.
    Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes by gradients of the reward through the last K sampling steps"
    Params = DraftParams

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {Need.REWARD_GRADIENT}

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        p, reached = self.params, sum(truncations(self.params, iterations))
        sampled = forward("flow", p.fit_steps) + reward_work(spec, 1, True)
        return (sampled * float(iterations) + backward("flow", reached)) * float(p.batch)

    def losses(self, problem: FitProblem) -> Losses:
        p, base = self.params, problem.rows_of(self.params.batch)
        reach = truncations(p, p.iterations)
        grid = base.grid(p.fit_steps)

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            x0 = base.noise("fit-x0", k, base.event_shape)
            x = truncated(model, base.started(x0, grid), grid, reach[k])
            return {"negative_reward": -base.reward(x).mean()}

        return step


def truncated(model: MeteredModule, x0: Tensor, grid: list[float], last: int) -> Tensor:
    """Euler samples through whose `last` steps gradients pass."""
    euler, cut = ode_step(model.velocity, "euler"), len(grid) - 1 - last
    with torch.no_grad():
        x = integrate(euler, x0, grid[: cut + 1])
    return integrate(euler, x, grid[cut:])
