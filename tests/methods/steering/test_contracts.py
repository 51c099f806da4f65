"""Steering methods: predicted work, samples whatever the batch, and a reward that rises."""

import math
from dataclasses import replace

import pytest
import torch

from bench.core import plugins
from bench.core.metering import Meter
from bench.core.params import UserError
from bench.core.scales import DRIFT_SCALES, GRADIENT_SCALES
from bench.plan.binding import bind, lacking
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem

MILD = "linear:a=0.5|-0.3"

METHODS = [
    *(f"dps:steps=5,scale={scale},best=1e9" for scale in (*DRIFT_SCALES, *GRADIENT_SCALES)),
    "dps:steps=5,scale=clip-norm,size=0.1,integrator=ancestral",
    "lgd-mc:steps=5,draws=3",
    "lgd-mc:steps=5,draws=2,average=reward,width=noise,spread=0.1",
    "lgd-mc:steps=6,draws=1,scale=rescale,integrator=sde",
    "tfg:steps=5",
    "tfg:steps=5,inner=2,draws=3,recurrence=2,eta=0",
    "tfg:steps=5,mu=0,draws=2",
    "tfg:steps=5,rho=0,sigma=0,draws=7,mu=0.01",
    "freedom:steps=5,recurrence=3,rho=0.1",
    "ugd:steps=5,inner=2,mu=0.1",
    "mpgd:steps=6,mu=0.1",
    "fmtt:steps=5,particles=3",
    "fmtt:steps=5,particles=2,jacobian=false,inner_steps=2,threshold=1.0",
    "fmrg",
    "fmrg:steps=2,tail=1,jacobian=false,scale=clip",
    "fmrg:steps=3,stop=1.0",
    "lidar:steps=5",
    "lidar:steps=6,pool=4,pool_steps=2,look_ahead=map,integrator=ancestral",
]
WORLDS = {
    "gmm-paper": [MILD, "quadratic"],
    "gmm:dimension=3": ["linear"],
    "digits": ["class-mixture", "template"],
}


def planned(task, reward, methods, n=6, **more):
    content = {"name": "t", "tasks": [task], "rewards": [reward], "methods": methods}
    return expand(build_suite(content | {"seeds": 1, "n": n, "budgets": ["none"]} | more))


def sampled(row):
    instances, meter = instances_of(row.cell), Meter()
    problem = make_problem(row.cell, instances, meter, range(row.cell.n))
    return sample_in_batches(instances.method, problem, row.cell).x, problem


# -- contracts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "reward"), [(t, r) for t, rs in WORLDS.items() for r in rs])
def test_predicted_work_is_measured_work(task, reward):
    for row in planned(task, reward, METHODS):
        assert row.status != "skipped", row.reason
        x, problem = sampled(row)
        assert problem.meter.work().same_rows(row.predicted * row.cell.n), row.method_label
        assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", ["fmtt", "fmrg", "mfm-g", "mfm-gf"])
def test_a_task_without_a_map_is_refused_with_the_reason(name):
    bound = bind("gmm:dimension=3", "linear")
    method = plugins.load("methods", name).create()
    assert lacking(method, bound.spec, bound.task) is None
    without = replace(bound.spec, has_flow_map=False)
    assert lacking(method, without, bound.task) == "needs a flow map"


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_samples_whatever_the_batch(method):
    (whole,) = planned("gmm-paper", MILD, [method], n=128)
    (parts,) = planned("gmm-paper", MILD, [method], n=128, batch=50)
    x = sampled(whole)[0]
    assert torch.equal(x, sampled(whole)[0])
    assert torch.allclose(x, sampled(parts)[0], atol=1e-3)


TILTING = [
    *(f"dps:scale={scale},best=10" for scale in (*DRIFT_SCALES, *GRADIENT_SCALES)),
    "lgd-mc:draws=4",
    "lgd-mc:draws=4,average=reward",
    "tfg:rho=0.1,mu=0.02",
    "freedom:rho=0.1",
    "ugd:mu=0.1",
    "mpgd:mu=0.1",
    "fmtt:particles=4,output=draw",
    "fmtt:particles=4,output=draw,jacobian=false",
    "fmrg",
    "fmrg:jacobian=false",
    "lidar:pool=16",
    "lidar:pool=16,pool_steps=1,look_ahead=map",
]


@pytest.mark.parametrize("method", TILTING)
def test_every_method_raises_the_reward(method):
    """From the same noise, by more than five standard errors of the paired difference."""
    base, own = planned("gmm-paper", MILD, ["dps:guidance=0", method], n=512)
    x, problem = sampled(own)
    gain = problem.reward(x) - problem.reward(sampled(base)[0])
    assert float(gain.mean()) > 5 * float(gain.std()) / math.sqrt(len(gain))


@pytest.mark.parametrize(
    "method", ["dps", "lgd-mc", "tfg", "freedom", "ugd", "mpgd", "fmtt", "fmrg", "lidar"]
)
def test_matching_uses_a_budget(method):
    for amount in (100, 150, 500):
        (row,) = planned("gmm-paper", MILD, [method], budgets=[f"paper-nfe={amount}"])
        assert 0.9 <= row.use <= 1, row.matched


def test_scales_that_need_a_gradient_are_offered_where_there_is_one():
    with pytest.raises(UserError, match="must be one of exact, rescale, clip, freedom"):
        planned("gmm-paper", MILD, ["mfm-gf:scale=residual"])
