"""What the runner hands to a fit, by hand, and the worlds that are fitted."""

import pytest
import torch

from bench.api import FitProblem, Problem
from bench.core import adapters, plugins
from bench.core.metered import MeteredFlow, MeteredMap
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.trainable import metered_clone
from bench.tasks.digits import Digits
from bench.tasks.gmm import PaperMixture

DOUBLE = torch.float64


# -- worlds ---------------------------------------------------------------------------------------


def fit_problem(task, reward, strength=1.0, seed=0, workdir=None):
    """What the runner hands to a fit, by hand."""
    meter = Meter()
    reward.bind(task)
    problem = Problem(
        flow=MeteredFlow(task.flow, meter, None),
        reward=meter.wrap("reward", lambda x: strength * reward(x, None)),
        meter=meter,
        source=NoiseSource(seed, "fit"),
        rows=range(4096),
        flow_map=MeteredMap(task.flow_map, meter, None),
        workdir=workdir,
    )

    def data(n, step):
        return task.draw_data(n, torch.Generator().manual_seed(1000 * seed + step))

    def trainable(rank=0):
        return metered_clone(adapters.adapt(task.trainable_flow(), rank), meter)

    return FitProblem(problem, [None], data, trainable)


def sampled(task, method, state, n, seed=0):
    """n samples of the fitted flow, and the work that they took."""
    flow = adapters.restore(task.trainable_flow, method.rank, state)
    meter = Meter()
    problem = Problem(
        MeteredFlow(flow, meter, None), len, meter, NoiseSource(seed, "sample"), range(n)
    )
    return method.sample(problem, n).x, meter.work()


def made(text):
    """A method of the entry points from name:key=value."""
    from bench.core.params import parse_name

    name, values = parse_name(text)
    return plugins.load("methods", name).create(**values)


@pytest.fixture(scope="module")
def gmm():
    return PaperMixture.create()


@pytest.fixture(scope="module")
def digits():
    return Digits.create()
