"""Scoring draws: their rewards, and what these cost."""

from __future__ import annotations

from torch import Tensor

from bench.core.problem import Problem
from bench.core.values import ProblemSpec
from bench.core.work import Work, backward, forward


def rewards_of(problem: Problem, x1: Tensor) -> Tensor:
    """Rewards (draws, batch) of x1 (draws, batch, *event_shape)."""
    return problem.reward(x1.flatten(0, 1)).reshape(x1.shape[:2])


def reward_work(spec: ProblemSpec, rows: float, gradient: bool = False) -> Work:
    """Rows of scoring (and differentiating) `rows` samples, decoder included."""
    work = forward("reward", rows) + (backward("reward", rows) if gradient else Work())
    if spec.has_decoder:
        work = work + forward("decoder", rows) + (backward("decoder", rows) if gradient else Work())
    return work
