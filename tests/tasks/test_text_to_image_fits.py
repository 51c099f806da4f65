"""A LoRA of implicit tilt matching on pipelines, trained on base samples that it pays for."""

import pytest
import torch

from bench.core.metering import Meter
from bench.core.params import UserError
from bench.record.tables import fit_agrees
from bench.runner.cell import Job
from bench.runner.instances import instances_of
from bench.runner.problems import make_fit_problem
from tests.worlds.pipeline_flows import PROMPT, STRONG, counted, planned_rows
from tests.worlds.tiny_pipelines import PIPELINES, own_latents, tiny_pipeline

FAST = ("sd3", "sd15", "flux")
OWN = {"own_samples": 6, "own_steps": 4}
FIT = "itm:rank=2,iterations=3,batch=2,steps=5,learning_rate=0.01"


def planned(name):
    (row,) = planned_rows(name, [FIT], **OWN)
    return row


def families(names):
    slow = pytest.mark.slow
    return [pytest.param(n, marks=() if n in names else slow) for n in PIPELINES]


@pytest.mark.parametrize("name", families(FAST))
def test_a_lora_of_itm_is_fitted_and_sampled(name):
    """Both ledgers are as predicted, the base samples on that of the fit."""
    row = planned(name)
    fit = Job(row.fit.cell).run()
    assert fit.status == "ok", fit.reason
    assert fit_agrees(row.fit, fit)
    each, iterations, batch = 1 if name == "flux" else 2, 3, 2
    own = OWN["own_samples"] * OWN["own_steps"]
    assert fit.work["flow_forward"] == each * (own + 2 * iterations * batch)
    sampled = Job(row.cell, fitted=fit.fitted).run()
    assert sampled.status == "ok", sampled.reason
    assert sampled.work["flow_forward"] == row.predicted.flow.forward * row.cell.n


@pytest.mark.parametrize("name", families(FAST))
def test_the_data_of_a_fit_are_the_pipeline_s_own_latents(name):
    """Made once, when they are first asked for, in the rows that were predicted."""
    row = planned(name)
    instances, meter = instances_of(row.fit.cell), Meter()
    flow = instances.task.flow
    with counted(flow) as network:
        problem = make_fit_problem(row.fit.cell, instances, meter)
        assert network.rows == 0
        x = problem.data(64, 0)
        rows = network.rows
        problem.data(64, 1)
    assert rows == network.rows == meter.work().flow.forward
    assert torch.equal(problem.data(64, 0), x)
    z = problem.problem.for_rows(range(OWN["own_samples"])).noise("own-data", 0, flow.event_shape)
    wanted = own_latents(tiny_pipeline(name), z, PROMPT[name], OWN["own_steps"], STRONG)
    gaps, nearest = (x[:, None] - wanted[None]).abs().flatten(2).amax(2).min(1)
    assert gaps.max() < 1e-5 * wanted.abs().max()
    assert len(set(nearest.tolist())) == OWN["own_samples"]


def test_data_are_samples_of_the_prompt_that_the_fit_is_for():
    two = planned_rows("sd15", [FIT], prompts="a red fox|two cats", **OWN)
    drawn = []
    for row in two:
        problem = make_fit_problem(row.fit.cell, instances_of(row.fit.cell), Meter())
        assert problem.conditions == [row.cell.condition]
        drawn.append(problem.data(4, 0))
    assert len({row.fit.id for row in two}) == 2
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3


def test_steps_that_the_schedule_does_not_state_are_refused_while_planning():
    said = "the base samples that a fit is trained on: .* has no 1000 steps"
    with pytest.raises(UserError, match=said):
        planned_rows("sd15", [FIT], own_samples=6, own_steps=1000)
