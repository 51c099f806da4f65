"""The largest score that a reward says it has is one that it reaches and never exceeds."""

import pytest
import torch

from bench.core.quadratic import Quadratic, linear, observation, well
from bench.models.digits_data import real_digits
from bench.plan.binding import bind

F64 = torch.float64


@pytest.mark.parametrize("seed", range(5))
def test_of_a_concave_quadratic(seed):
    torch.manual_seed(seed)
    root = torch.randn(4, 2, dtype=F64)  # flat along two directions
    curvature = root @ root.T
    form = Quadratic(curvature @ torch.randn(4, dtype=F64), curvature, 0.3)
    x = torch.randn(4, dtype=F64, requires_grad=True)
    search = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        out = -form(x)
        out.backward()
        return out

    search.step(loss)
    assert form.highest == pytest.approx(float(form(x.detach())), abs=1e-8)


def test_of_what_grows_without_end():
    assert linear(torch.tensor([1.0, -1.0], dtype=F64)).highest is None
    half = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=F64)
    assert Quadratic(torch.tensor([1.0, 0.1], dtype=F64), half).highest is None


def test_of_the_shipped_quadratics():
    assert well(torch.tensor([2.0, 3.0], dtype=F64), 5.0).highest == pytest.approx(0)
    sharp = observation(
        torch.tensor([[1.2, -0.8]], dtype=F64),
        torch.tensor([-1.0], dtype=F64),
        torch.tensor([[0.04]], dtype=F64),
    )
    density = torch.distributions.Normal(0.0, 0.2).log_prob(torch.tensor(0.0))
    assert sharp.highest == pytest.approx(float(density))


@pytest.mark.parametrize(
    "reward",
    [
        "class",
        "class-mixture",
        "class-mixture:classes=3|3,weights=0.5|0.5",
        "template",
        "inpaint",
        "super-resolution",
        "deblur",
    ],
)
def test_no_digit_is_above_it(reward):
    bound = bind("digits", reward)
    bound.reward.bind(bound.task)
    x = torch.cat([real_digits("held-out").x, torch.randn(500, 1, 8, 8)])
    highest = bound.reward.highest(bound.task)
    scores = bound.reward(x, None)
    assert scores.max() <= highest + 1e-5
    if reward != "super-resolution" and reward != "deblur":  # those have noise in what they see
        assert scores.max() >= highest - 0.05


def test_a_strength_scales_it_and_a_score_turned_around_has_none():
    assert bind("gmm-paper", "inverse:strength=2").spec.highest == pytest.approx(2 * 0.69050, 1e-4)
    assert bind("gmm-paper", "linear").spec.highest is None
