"""Loops wait for an accelerator once in so many steps, and say what they would have at once."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from bench.core import watch
from bench.core.finite import finite_reward
from bench.core.metered import MeteredFlow
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.params import UserError
from bench.core.paths import Linear
from bench.core.place import Place
from bench.core.problem import Problem
from bench.core.watch import READ_EVERY, Watch, when_known
from methods.particles.fk import FK
from methods.particles.tds import TDS
from methods.steering.dps import DPS
from methods.steering.tfg import TFG
from tests.worlds.pretend_cuda import PretendCuda

STEPS = 2 * READ_EVERY + 3
CARD = torch.device("cuda", 0)


class Shrinking:
    """A flow that looks at none of its values: b = -x / 2."""

    event_shape, interpolant = (3,), Linear()

    def velocity(self, x, t, condition=None):
        return -0.5 * x


def problem_on(device, curve, reward=lambda x: -x.square().sum(1), n=4):
    """A problem without prices, whose counts look at times."""
    meter = Meter()
    return Problem(
        flow=MeteredFlow(Shrinking(), meter, None),
        reward=finite_reward(meter.wrap("reward", reward), "mine"),
        meter=meter,
        source=NoiseSource(0, "watched", device=device),
        rows=range(n),
        place=Place(device),
        on_log=lambda step, scalars: curve.append((step, dict(scalars))),
    )


def ran(method, device, **keys):
    """The samples, or the error's text; and the curve."""
    curve = []
    try:
        return method.sample(problem_on(device, curve, **keys), 4), curve
    except (FloatingPointError, UserError) as error:
        return str(error), curve


AFTERWARDS = Counter({"__float__": 2, "unique": 1, "__int__": 1})
"""Resamplings and log Z; the groups of samples."""

METHODS = {
    "dps": DPS.create(steps=STEPS),
    "dps by residual": DPS.create(steps=STEPS, scale="residual", start=0.3),
    "tfg": TFG.create(steps=STEPS),
    "fk": FK.create(steps=STEPS, particles=2, looks=STEPS),
    "tds": TDS.create(steps=STEPS, particles=2, resampling="ssp"),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_loop_waits_once_in_so_many_steps_and_tells_the_same(name, monkeypatch):
    here, curve = ran(METHODS[name], "cpu")
    with PretendCuda(monkeypatch) as card:
        there, same = ran(METHODS[name], "cuda")
    assert there.x.pretended and torch.equal(there.x, here.x)
    assert same == curve and len(curve) >= STEPS - 2 and there.info == here.info
    # A method that returns populations reads what they were worth, once, when they are done.
    after = AFTERWARDS if "resamplings" in here.info else Counter()
    assert (card.waits - after).total() <= math.ceil(STEPS / READ_EVERY), card.waits


def spoilt(at, place=1, gradient=False):
    """A reward whose call `at` (from 0) is not finite for one sample, or whose gradient is not."""
    calls = iter(range(10**6))

    def reward(x):
        r, bad = -x.square().sum(1), torch.arange(len(x), device=x.device) == place
        if next(calls) != at:
            return r
        if gradient:
            return r + torch.where(bad, x[:, 0] - x[:, 0].detach(), 1.0).sqrt()
        return torch.where(bad, math.nan, r)

    return reward


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("at", [0, 5, READ_EVERY + 1, STEPS - 1])
def test_the_first_bad_step_is_named_and_ends_the_curve(at, gradient, monkeypatch):
    method = METHODS["dps"]
    said, curve = ran(method, "cpu", reward=spoilt(at, gradient=gradient))
    what = "the gradient of the reward" if gradient else "the reward"
    where = f"for sample 1 in call {at + 1} of the reward at step {at}, t = "
    assert said.startswith(f"{what} 'mine' is not finite {where}") and len(curve) == at
    with PretendCuda(monkeypatch):
        later, same = ran(method, "cuda", reward=spoilt(at, gradient=gradient))
    assert later == said and same == curve


@pytest.mark.parametrize("name", ["fk", "tds"])
def test_a_lost_particle_is_named_as_on_the_cpu(name, monkeypatch):
    said, curve = ran(METHODS[name], "cpu", reward=spoilt(7))
    assert "is not finite for sample 1 in call 8" in said and " at step " in said
    with PretendCuda(monkeypatch):
        later, same = ran(METHODS[name], "cuda", reward=spoilt(7))
    assert later == said and same == curve


def test_a_state_that_is_lost_is_named_by_its_step(monkeypatch):
    class Bursting(Shrinking):
        def velocity(self, x, t, condition=None):
            return torch.where(t[:, None] > 0.6, math.inf, -0.5 * x)

    def run(device):
        problem = problem_on(device, [])
        flow = MeteredFlow(Bursting(), problem.meter, None)
        with pytest.raises(FloatingPointError) as found:
            DPS.create(steps=STEPS, guidance=0.0).sample(replace(problem, flow=flow), 4)
        return str(found.value)

    said = run("cpu")
    assert said.startswith("the ")
    with PretendCuda(monkeypatch):
        assert run("cuda") == said


def test_what_a_scale_refuses_is_refused_when_it_is_read(monkeypatch):
    method = DPS.create(steps=5, scale="residual", best=-1e4)
    said, _ = ran(method, "cpu")
    assert "above best = -10000" in said
    with PretendCuda(monkeypatch):
        assert ran(method, "cuda")[0] == said


def test_an_error_of_a_step_comes_after_what_was_wrong_before(monkeypatch):
    """A budget that ends after a value was lost: the value is the answer."""

    def refuse(row):
        raise FloatingPointError(f"row {row:.0f}")

    with (
        PretendCuda(monkeypatch),
        pytest.raises(FloatingPointError, match="row 2"),
        Watch(lambda *_: None, CARD),
    ):
        when_known(torch.full((), 2.0, device="cuda"), refuse)
        raise RuntimeError("later")


def test_curves_are_complete_when_a_loop_is_stopped(monkeypatch):
    told = []
    watched = Watch(lambda *step: told.append(step), CARD)
    with PretendCuda(monkeypatch), pytest.raises(KeyError), watched as w:
        w.note(0, {"a": torch.full((), 0.1, device="cuda"), "b": 2.0})
        assert not told
        raise KeyError
    assert told == [(0, {"a": float(torch.tensor(0.1)), "b": 2.0})]


def test_the_first_bad_row_is_found_wherever_it_stands():
    x = torch.zeros(5, 2, 2)
    assert watch.first_bad(x) == -1 == watch.first_bad(x[:0])
    x[3, 1, 0], x[4] = math.inf, math.nan
    assert watch.first_bad(x) == 3 and watch.first_bad(x[:, 0, 0]) == 4
