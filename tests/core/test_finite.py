"""A reward that is not finite, or its gradient, is an error that says which, where and when."""

import math

import pytest
import torch

from bench.core.finite import finite_reward
from bench.core.integrate import at_step
from bench.core.metering import Meter
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import Job
from rewards.quadratic import LinearReward


def scored(value, name="mine"):
    return finite_reward(Meter().wrap("reward", value), name)


def root(x):
    return x[:, 0].sqrt()


def test_the_call_is_named():
    reward = scored(root)
    reward(torch.ones(3, 1))
    with pytest.raises(FloatingPointError, match=r"reward 'mine' .* sample 2 in call 2 "):
        reward(torch.tensor([[1.0], [0.0], [-1.0]]))


def test_a_gradient_that_is_not_finite_is_refused():
    x = torch.tensor([[1.0], [0.0]], requires_grad=True)
    r = scored(root)(x)
    with pytest.raises(FloatingPointError, match=r"gradient of the reward 'mine' .* sample 1 in"):
        torch.autograd.grad(r.sum(), x)


def test_only_the_reward_is_blamed_for_its_own_gradient():
    x = torch.ones(2, 1, requires_grad=True)
    r = scored(root)(x)
    (slope,) = torch.autograd.grad((r * math.inf * 0).sum(), x)
    assert slope.isnan().all()
    (slope,) = torch.autograd.grad(scored(root)(x).sum() + (x - 1).sqrt().sum(), x)
    assert slope.isinf().all()
    (slope,) = torch.autograd.grad(scored(root)(x).sum(), x)
    assert torch.equal(slope, torch.full((2, 1), 0.5))


def test_the_step_is_added():
    with pytest.raises(FloatingPointError, match=r"lost at step 3, t = 0\.250"), at_step(3, 0.25):
        raise FloatingPointError("lost")


@pytest.mark.parametrize("method", ["dps:steps=5", "mfm-gf:steps=5,posterior=exact", "tds:steps=5"])
def test_a_cell_names_reward_sample_call_and_step(method, monkeypatch):
    """The reward is broken from the start: the first call, at the first step, is named."""
    own = LinearReward.__call__

    def broken(self, x, condition):
        r = own(self, x, condition)
        return torch.where(torch.arange(len(r)) == 1, math.nan, r)

    monkeypatch.setattr(LinearReward, "__call__", broken)
    content = {"name": "x", "tasks": ["gmm-paper"], "rewards": ["linear"], "seeds": 1, "n": 8}
    (row,) = expand(build_suite(content | {"methods": [method]}))
    attempt = Job(row.cell).run()
    where = "for sample 1 in call 1 of the reward at step 0, t = "
    assert attempt.status == "diverged"
    assert attempt.reason.startswith(f"the reward 'linear' is not finite {where}")
