"""Methods on all seven families: what is predicted is what is counted, and that is what ran."""

from functools import cache

import pytest
import torch

from bench.core.metering import Meter
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem
from tests.worlds.pipeline_flows import counted, planned_rows
from tests.worlds.tiny_pipelines import PIPELINES

N, STEPS = 2, 5
BASE = f"prior:steps={STEPS}"
METHODS = (
    f"dps:steps={STEPS}",
    f"rollout:steps={STEPS},inner_steps=2,draws=2",
    f"mfm-gf:posterior=glass,steps={STEPS},inner_steps=2,draws=2",
    f"fk:steps={STEPS},particles=2",
    f"tds:steps={STEPS},particles=2",
    f"das:steps={STEPS},particles=2",
    f"svdd:steps={STEPS},candidates=2",
    f"best-of-n:steps={STEPS},candidates=3",
)
GRADIENT, SEARCH = METHODS[0], METHODS[-1]
"""Both begin with the noise of the base sample; the search has it among its candidates."""


@cache
def planned(name):
    """The row of every method on a family."""
    return {row.method_label: row for row in planned_rows(name, [BASE, *METHODS], N)}


@cache
def run(name, method):
    """Predicted work of N samples, counted work, rows that the network ran, the mean reward."""
    row, meter = planned(name)[method], Meter()
    made = instances_of(row.cell)
    problem = make_problem(row.cell, made, meter, range(N))
    with counted(made.task.flow) as network:
        samples = made.method.sample(problem, N)
    work = meter.work()
    assert torch.isfinite(samples.x).all()
    assert len(samples) == N
    return row.predicted * N, work, network.rows, problem.reward(samples.x).mean().item()


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_on_a_family_takes_the_rows_that_were_predicted(name, method):
    predicted, work, rows, reward = run(name, method)
    assert not predicted.upper_bound
    assert work.same_rows(predicted), f"{predicted} for {work}"
    assert rows == work.flow.forward, "a guided row is two rows of the network"
    assert work.flow.forward % (1 if name == "flux" else 2) == 0
    base = run(name, BASE)[-1]
    assert reward > base or method != GRADIENT
    assert reward >= base or method != SEARCH
