"""Adjoint matching's weight 4/sigma^2 has a bound at the end of a rollout, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from bench.core.paths import Linear
from methods.finetuning.adjoint import AdjointMatching, Adjoints, Rollout

K = 6


class Off:
    """A model whose velocity is 1 off a target of zero in every coordinate."""

    def velocity(self, x, t):
        return torch.ones_like(x)


def loss(t: float) -> float:
    """Of one row at time t, where base velocity and adjoint vanish: 2 in |gap|^2."""
    method = AdjointMatching.create(fit_steps=K, matched=1)
    states = torch.zeros(3, 1, 2)
    zero = torch.zeros(1, 1, 2)
    path, nothing = Rollout(states, [0.0, t, 1.0]), Adjoints(zero, zero)
    return float(method._loss(Off(), Linear(), path, nothing, torch.zeros(1, dtype=torch.long)))


@pytest.mark.parametrize("t", [0.1, 0.5, 1 - 1 / (K - 1)])
def test_it_is_that_of_the_control_problem_up_to_a_step_before_the_end(t):
    assert loss(t) == pytest.approx(2 * 2 * t / (1 - t), rel=1e-5)


@pytest.mark.parametrize("left", [0.1, 1e-3, 1e-6])
def test_it_stays_bounded_in_the_last_step(left):
    assert loss(1 - left) == pytest.approx(2 * 2 * (K - 2), rel=1e-4)
