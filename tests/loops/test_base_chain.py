"""The chain that particles follow, without a reward: 20 steps end near the law of the data."""

from itertools import pairwise

import pytest
import torch

from bench.core.integrate import filled
from bench.core.plugins import load
from bench.loops.transitions import TRANSITIONS
from bench.metrics.sliced import sliced_distance
from tests.worlds.one_gaussian import mixture_problem

STEPS, SEEDS = 20, 10
WORLDS = {
    "gmm-paper": load("tasks", "gmm-paper").create(),
    "2": load("tasks", "gmm").create(dimension=2),
    "16": load("tasks", "gmm").create(dimension=16),
    "64": load("tasks", "gmm").create(dimension=64),
}


def chain(problem, variance):
    """x at time 1 of the chain with equal steps."""
    step, grid = TRANSITIONS[variance], problem.grid(STEPS)
    x = problem.x0()
    for k, (now, then) in enumerate(pairwise(grid)):
        t, u = filled(now, x), filled(then, x)
        denoised = problem.interpolant.denoiser(problem.flow.velocity(x, t), x, t)
        mean, deviation = step.moments(problem, x, denoised, t, u, problem.noise_at(k))
        x = mean + deviation[:, None] * problem.noise("step", k, problem.event_shape)
    return x


def floors(mixture, variance, n):
    """Sliced W2 of the chain to the data, in multiples of that between two draws of the data."""
    distance = floor = 0.0
    for seed in range(SEEDS):
        draw = torch.Generator().manual_seed(seed)
        data, other = (mixture.sample(n, draw).numpy() for _ in range(2))
        own = float(mixture.covariance().diagonal().mean())
        problem = mixture_problem(mixture, lambda x: x[:, 0], n, seed, variance=own)
        made = chain(problem, variance)
        distance += sliced_distance(made.numpy(), data)
        floor += sliced_distance(other, data)
    return distance / floor


@pytest.mark.parametrize("name", WORLDS)
def test_twenty_steps_are_within_a_fifth_of_the_floor(name):
    """With the variance of the data; the narrow step is further off everywhere."""
    n = 1024 if name == "gmm-paper" else 512
    mixture = WORLDS[name].mixture.to(torch.zeros(0, dtype=torch.float64))
    wide, narrow = (floors(mixture, kind, n) for kind in ("data", "posterior"))
    assert wide < 1.2, wide
    assert narrow > wide + 0.1, (narrow, wide)


@pytest.mark.parametrize("name", WORLDS)
def test_a_mixture_states_the_variance_of_its_data(name):
    task = WORLDS[name]
    x = task.draw_data(20_000, torch.Generator().manual_seed(0))
    assert task.data_variance == pytest.approx(float(x.var(0).mean()), rel=0.05)


def test_digits_state_it_too():
    digits = load("tasks", "digits").create()
    drawn = digits.draw_data(1437, torch.Generator().manual_seed(0))
    assert digits.data_variance == pytest.approx(float(drawn.var(0).mean()), rel=0.1)
