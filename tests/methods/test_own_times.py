"""Methods on a flow with its own times and an interval of guidance: when they ask, their cost."""

import itertools
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from bench.core import plugins
from bench.core.metering import Meter
from bench.core.params import NoParams, parse_name
from bench.core.timing import Timing
from bench.core.values import ProblemSpec
from bench.plan.prediction import fit_work, sample_work
from bench.runner.cell import sample_in_batches
from bench.runner.problems import make_fit_problem
from tests.worlds.guided import guided_cell
from tests.worlds.scheduled import (
    FIRST,
    SPEC,
    Scheduled,
    ScheduledFlow,
    own_times,
    scheduled_instances,
    scheduled_problem,
)

N = 4

EXACT = [
    "prior:steps=7",
    "prior:steps=7,solver=heun",
    "best-of-n:steps=10,candidates=3",
    "best-of-n:steps=10,candidates=2,integrator=ancestral",
    "dps:steps=7",
    "dps:steps=7,integrator=sde",
    "lgd-mc:steps=7,draws=2",
    "rollout:steps=7,draws=2,inner_steps=3",
    "rollout:steps=7,draws=2,inner_steps=2,estimator=G",
    "rollout:steps=7,draws=2,inner_steps=3,posterior=sde,estimator=G",
    "rollout:steps=7,draws=2,inner_steps=2,posterior=glass-heun",
    "mfm-gf:steps=7,draws=3,posterior=glass,inner_steps=4",
    "mfm-g:steps=7,draws=2,posterior=gaussian",
    "tfg:steps=7,recurrence=2",
    "mpgd:steps=7",
    "lidar:steps=7,pool=3,pool_steps=4",
    "fk:particles=3,steps=7",
    "fk:particles=3,steps=7,posterior=glass,draws=2,inner_steps=3",
    "mfm-gf:steps=7,draws=2,posterior=glass,inner_steps=1",
    "tds:particles=3,steps=7",
    "tds:particles=3,steps=7,posterior=glass,draws=2,inner_steps=3",
    "das:particles=3,steps=7,output=draw",
    "psi-sampler:particles=3,steps=7,moves=2",
    "svdd:candidates=3,steps=7",
    "svdd:candidates=3,steps=7,posterior=sde,draws=2,inner_steps=3",
    "code:candidates=3,steps=7,block=2",
    "sir:candidates=3,generator=ode,steps=5",
    "zero-order:iterations=2,generator=ode,steps=5",
    "reno:iterations=3,generator=ode,steps=5",
    "demon:candidates=3,steps=7",
    "demon:candidates=3,steps=7,lookahead=ode,inner_steps=3",
    "mfm-search:particles=2,draws=2,steps=7,posterior=glass,inner_steps=3",
    "sop:lookahead=ode,inner_steps=3",
    "best-of-n-pruned:steps=10,candidates=4,lookahead=ode,inner_steps=3",
]
"""Every call's time is known beforehand."""

BOUNDED = [
    "rbf:steps=7,quota=3,initial=3",
    "dts:steps=7,rollouts=2,samples=2",
    "gibbs:particles=2,rounds=2,posterior=glass,inner_steps=2,generator=ode,generator_steps=4",
    "mfm-gf:steps=7,draws=4,posterior=glass,inner_steps=3,proposal=both",
]
"""Times that depend on the data, or that the method does not count by."""


def made(text):
    name, given = parse_name(text)
    return plugins.load("methods", name).create(**given)


def run(text):
    """Samples and work of N samples, and the flow that was asked."""
    method, task = made(text), Scheduled(NoParams())
    problem = scheduled_problem(method, N, task)
    samples = sample_in_batches(method, problem, guided_cell(1, N))
    return samples, problem.meter.work(), task.flow


@pytest.mark.parametrize("text", EXACT)
def test_prediction_is_measurement_and_both_are_what_the_network_ran(text):
    samples, work, flow = run(text)
    predicted = sample_work(made(text), SPEC)
    assert not predicted.upper_bound
    assert work.same_rows(predicted * N), f"{predicted * N} for {work}"
    assert work.flow.forward == flow.network.rows, "the meter counts what ran"
    calls = sample_work(made(text), ProblemSpec((2,))).flow.forward * N
    assert calls < work.flow.forward < 2 * calls, "guided in the interval and only there"
    assert torch.isfinite(samples.x).all()


@pytest.mark.parametrize("text", BOUNDED)
def test_where_times_are_not_known_the_prediction_is_a_bound(text):
    samples, work, flow = run(text)
    predicted = sample_work(made(text), SPEC)
    assert predicted.upper_bound
    most = predicted * N
    assert all(a <= b + 1e-9 for a, b in zip(work.vector, most.vector, strict=True))
    assert work.flow.forward == flow.network.rows and torch.isfinite(samples.x).all()


@pytest.mark.parametrize("text", [*EXACT, *BOUNDED])
def test_no_method_asks_before_the_first_time(text):
    """The network knows nothing there."""
    assert min(run(text)[2].asked) >= FIRST - 1e-6


@pytest.mark.parametrize(
    "text",
    ["prior:steps=10", "dps:steps=10,guidance=0", "best-of-n:steps=10,candidates=1"],
)
def test_the_plain_sampler_is_euler_on_the_flows_times(text):
    """Also where a parameter says that a run begins at 0.01."""
    x, flow, grid = scheduled_problem(made(text), N), ScheduledFlow(), own_times(10)
    x = x.x0(grid[0])
    for t, u in pairwise(grid):
        x = x + (u - t) * flow.velocity(x, torch.full((N,), t)).detach()
    assert torch.allclose(run(text)[0].x, x, atol=1e-6)


def test_constant_rows_need_no_times():
    """A guided flow without an interval doubles, whatever its times are."""
    spec = ProblemSpec((2,), guided=True, timing=Timing(own_times))
    for text in EXACT:
        plain = sample_work(made(text), ProblemSpec((2,), timing=Timing(own_times))).flow
        twice = sample_work(made(text), spec)
        assert twice.flow.forward == 2 * plain.forward and not twice.upper_bound


# -- fits -----------------------------------------------------------------------------------------

FITS = [
    "draft-k:iterations=8,batch=4,fit_steps=5,steps=6",
    "adjoint-matching:iterations=8,batch=4,fit_steps=5,matched=2,steps=6",
    "flow-grpo:iterations=8,batch=4,group=4,fit_steps=4,steps=6",
    "flow-map-grpo:iterations=8,batch=4,group=4,jumps=3,steps=6",
    "vgg-flow:iterations=8,batch=4,fit_steps=5,matched=2,steps=6",
]
"""Fits that make their own samples."""


def fit_of(text, folder=None, dies_after=None):
    """The fit, and the flow that it asked; a reward that dies is an interrupted fit."""
    method, task = made(text), Scheduled(NoParams())
    given = make_fit_problem(guided_cell(1, N), scheduled_instances(method, task), Meter())
    calls, whole = itertools.count(), given.problem.reward

    def reward(x):
        if dies_after is not None and next(calls) >= dies_after:
            raise KeyboardInterrupt
        return whole(x)

    problem = replace(given.problem, reward=reward, workdir=folder)
    return method, replace(given, problem=problem), task.flow


@pytest.mark.parametrize("text", FITS)
def test_fits_begin_at_the_first_time_and_stay_within_their_prediction(text):
    method, problem, flow = fit_of(text)
    method.fit(problem)
    work, most = problem.problem.meter.work(), fit_work(method, SPEC)
    assert most.upper_bound and work.flow.forward <= most.flow.forward
    assert min(flow.asked, default=FIRST) >= FIRST - 1e-6
    assert work.same_rows(most) == (work.flow == most.flow)


@pytest.mark.parametrize("text", FITS[:2])
def test_a_resumed_fit_owes_the_rows_that_ran(tmp_path, text):
    """Not the calls that were made: a guided call is two."""
    method, whole, _ = fit_of(text)
    method.fit(whole)
    with pytest.raises(KeyboardInterrupt):
        method.fit(fit_of(text, tmp_path, dies_after=6)[1])
    resumed = fit_of(text, tmp_path)[1]
    method.fit(resumed)
    assert resumed.problem.meter.work().same_rows(whole.problem.meter.work())
