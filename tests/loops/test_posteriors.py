"""The table of posterior samplers: what an entry promises is what its sampler does."""

import pytest
import torch

from bench.core.methods import Need
from bench.core.posterior import Remembered, Tweedie
from bench.core.values import ProblemSpec
from bench.loops import posteriors
from bench.loops.candidates import LOOK_AHEADS
from bench.loops.estimation import EstimatedSteering
from bench.loops.particles import particle_noise
from bench.loops.posteriors import SAMPLERS, PosteriorChoice, SamplerEntry
from tests.worlds.search_problems import problem_of
from tests.worlds.steered_mixtures import states

SPEC = ProblemSpec((2,))


def drawn(choice, draws, gradient):
    """Draws at one time, as a steering step makes them, and the work that they took."""
    problem = problem_of(n=6)
    x, t = (part.float() for part in states(6, 2, 0.4))
    x.requires_grad_(gradient)
    flow = Remembered(problem.flow)
    with torch.set_grad_enabled(gradient and choice.differentiates_flow):
        flow.velocity(x, t)
    before = problem.meter.work()
    with torch.set_grad_enabled(gradient):
        n = choice.distinct(draws)
        x1 = choice.build(problem, flow).draw(x, t, n, problem.noise_at(0))
        if gradient:
            torch.autograd.grad(x1.sum(), x)
    return x1, problem.meter.work() + before * -1.0


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_draw_costs_what_its_entry_says(name, inner_steps):
    choice = PosteriorChoice(name, inner_steps)
    for gradient in (False, True):
        if gradient and Need.PATHWISE_POSTERIOR in choice.needs(gradient):
            continue
        x1, work = drawn(choice, 5, gradient)
        assert x1.shape == (choice.distinct(5), 6, 2)
        assert work.same_rows(choice.work(5, gradient) * 6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_points_are_the_same_draw_after_draw(name):
    """More draws of a point are copies; of every other sampler they differ."""
    problem = problem_of(n=6)
    x, t = (part.float() for part in states(6, 2, 0.4))
    sampler = PosteriorChoice(name, 2).build(problem, Remembered(problem.flow))
    x1 = sampler.draw(x, t, 4, problem.noise_at(0))
    assert torch.equal(x1[0], x1[3]) == SAMPLERS[name].point


@pytest.mark.parametrize("name", LOOK_AHEADS)
def test_a_look_ahead_costs_what_it_says(name):
    problem = problem_of(n=6)
    look = LOOK_AHEADS[name].build(3, 2)
    values, b = look(problem, problem.x0(), 0.4, particle_noise(problem, 0, 1))
    assert values.shape == (6,) and (b is not None) == look.sees_velocity
    assert problem.meter.work().same_rows(look.work(SPEC, [0.4]) * 6)


def test_another_sampler_is_another_entry(monkeypatch):
    """Needs, work and samples of a method follow from the table alone."""
    entry = SamplerEntry("the Tweedie point again", lambda given: Tweedie(given.flow), lambda _: 0)
    monkeypatch.setattr(posteriors, "SAMPLERS", {**SAMPLERS, "again": entry})

    class Again(EstimatedSteering):
        @property
        def choice(self):
            return PosteriorChoice("again")

    method, problem = Again.create(draws=2, steps=5), problem_of(n=6)
    assert method.needs == {Need.REWARD_GRADIENT}
    x = method.sample(problem, 6).x
    assert problem.meter.work().same_rows(method.work(SPEC) * 6)
    known = EstimatedSteering.create(draws=1, steps=5, posterior="tweedie")
    assert torch.allclose(x, known.sample(problem_of(n=6), 6).x, atol=1e-5)
