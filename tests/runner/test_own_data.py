"""Base samples in place of data: of the right law, in the rows that were predicted, made once."""

from dataclasses import replace

import pytest
import torch

from bench.core.metering import Meter
from bench.core.metrics import Target
from bench.core.values import OwnSamples, ProblemSpec
from bench.plan.prediction import fit_work
from bench.runner.instances import Instances
from bench.runner.problems import make_fit_problem
from bench.tasks.gmm import PaperMixture
from methods.finetuning.itm import ImplicitTiltMatching
from tests.worlds.guided import Sum, guided_cell
from tests.worlds.scheduled import SPEC, Scheduled

N, STEPS = 4000, 200


def given(task, method=None, meter=None, batch=1024, seed=0):
    method = ImplicitTiltMatching.create() if method is None else method
    cell = replace(guided_cell(1, 1), batch=batch, seed=seed)
    instances = Instances(task, Target(Sum(task.params), 1.0, 1), method)
    return make_fit_problem(cell, instances, Meter() if meter is None else meter)


def lonely(cls, samples, steps):
    """A task that says it has no data."""
    task = cls.create()
    task.own_samples = OwnSamples(samples, steps)
    return task


def test_they_follow_the_base_law():
    task = lonely(PaperMixture, N, STEPS)
    own = given(task).data(N, 0)
    data = task.draw_data(N, torch.Generator().manual_seed(5))
    for statistic in (lambda x: x, lambda x: x.square(), lambda x: x[:, :1] * x[:, 1:]):
        a, b = statistic(own), statistic(data)
        # draws with replacement from N samples have twice their variance
        error = ((2 * a.var(0) + b.var(0)) / N).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 4 * error).all()


def test_they_do_not_depend_on_how_many_are_made_at_a_time_but_on_the_seed():
    task = lonely(PaperMixture, 100, 5)
    x = given(task).data(50, 3)
    torch.testing.assert_close(given(task, batch=7).data(50, 3), x)
    assert not torch.allclose(given(task, seed=1).data(50, 3), x)


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_fit_pays_for_them_once(iterations):
    """Also where guidance, and so the rows of a call, follows the time."""
    own = OwnSamples(9, 5)
    task, meter = lonely(Scheduled, 9, 5), Meter()
    method = ImplicitTiltMatching.create(iterations=iterations, batch=4)
    method.fit(given(task, method, meter))
    spec = replace(SPEC, own_samples=own, trainable=True)
    predicted, free = (fit_work(method, s) for s in (spec, replace(spec, own_samples=None)))
    rows = sum(SPEC.timing.rows_at(t) for t in SPEC.grid(5)[:-1])
    assert predicted.flow.forward - free.flow.forward == pytest.approx(9 * rows)
    assert meter.work().flow.forward <= predicted.flow.forward
    assert predicted.upper_bound, "the times of training points are not known beforehand"


def test_data_that_are_there_cost_nothing():
    assert ProblemSpec((2,)).data_calls == 0
