"""Fine-tuning: trainable flows, the ledger, resuming, LoRA, and what a fit reaches."""

import math

import pytest
import torch

from bench.api import Linear, Need, ProblemSpec, UserError
from bench.core import adapters, quadratic
from bench.metrics.two_sample import sliced_w2
from bench.tasks.gmm import RandomMixture
from rewards.digits import ClassMixture
from rewards.quadratic import LinearReward
from tests.worlds import small_fits
from tests.worlds.small_fits import fit_problem, made, sampled

# Fixtures: pytest looks for them in this module.
gmm, digits = small_fits.gmm, small_fits.digits


# -- trainable flows ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 3])
def test_a_trainable_flow_starts_as_the_flow(gmm, digits, rank):
    for task in (gmm, digits, RandomMixture.create(dimension=5)):
        flow = adapters.adapt(task.trainable_flow(), rank)
        x, t = torch.randn(7, *task.event_shape), torch.linspace(0, 1, 7)
        assert torch.allclose(flow.velocity(x, t), task.flow.velocity(x, t), atol=1e-6)
        again = adapters.adapt(task.trainable_flow(), rank).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in flow.state_dict().items())


def test_a_constant_net_is_the_exact_residual_of_a_gaussian_and_a_linear_reward():
    """v - b = C_t a / (1 - t) in every direction, whatever the variances."""
    task = RandomMixture.create(dimension=3, components=1)
    flow, a = task.trainable_flow(), torch.tensor([0.5, -1.0, 2.0])
    scale = flow.gaussian.eigenvalues.sqrt()
    with torch.no_grad():
        flow.net.leave[1].bias.copy_(scale * (a @ flow.gaussian.basis))
        x, t = torch.randn(9, 3), torch.linspace(0.0, 0.99, 9)
        residual = flow.velocity(x, t) - task.flow.velocity(x, t)
        shift = task.mixture.shift(x, t, quadratic.linear(a))
    assert torch.allclose(residual, Linear().tilt(shift, t), atol=1e-4)


def test_training_data_follow_the_law(gmm, digits, generator):
    x = gmm.draw_data(40_000, generator)
    assert torch.allclose(x.mean(0), gmm.mixture.mean(), atol=0.06)
    assert torch.allclose(torch.cov(x.T), gmm.mixture.covariance(), atol=0.15)
    picks = digits.draw_data(5, generator)
    train = digits.data("train")
    assert all(bool((train == pick).flatten(1).all(1).any()) for pick in picks)


# -- the ledger, resuming, LoRA -------------------------------------------------------------------

SMALL = "iterations=5,batch=8,steps=3"
METHODS = [
    f"mfm-ft:{SMALL}",
    f"mfm-ft:{SMALL},draws=3,inner_steps=2,scaling=constant,rank=2",
    f"mfm-ft:{SMALL},draws=2,posterior=glass,inner_steps=3",
    f"mfm-ft:{SMALL},posterior=sde,inner_steps=2,variance=release,solver=heun",
    f"mfm-ft:{SMALL},posterior=tweedie",
    f"itm:{SMALL}",
    f"itm:{SMALL},scaling=constant,rank=2",
    f"adjoint-matching:{SMALL},fit_steps=5,matched=2",
    f"adjoint-matching:{SMALL},fit_steps=4,matched=3,weighting=uniform,rank=2",
    f"draft-k:{SMALL},fit_steps=4",
    f"draft-k:{SMALL},fit_steps=6,last=3,truncation=random,rank=2",
    f"flow-grpo:{SMALL},fit_steps=4,group=4",
    f"flow-grpo:{SMALL},fit_steps=3,group=8,updates=3,spread=batch,log_prob=sum,rank=2",
    f"flow-map-grpo:{SMALL},group=4",
    f"flow-map-grpo:{SMALL},group=8,updates=3,jumps=2,inner_steps=3,anchor=0.5,rank=2",
    f"diffusion-nft:{SMALL},fit_steps=4,group=4,points=2",
    f"diffusion-nft:{SMALL},group=8,updates=3,points=1,regression=velocity,rank=2",
    f"awm:{SMALL},fit_steps=4,group=4,points=3",
    f"awm:{SMALL},group=8,updates=2,spread=batch,points=1,rank=2",
    f"vgg-flow:{SMALL},fit_steps=5,matched=2",
    f"vgg-flow:{SMALL},fit_steps=3,matched=3,eta=one,cost=2,rank=2",
]


def world_of(name, gmm, digits):
    return (gmm, LinearReward.create()) if name == "gmm" else (digits, ClassMixture.create())


@pytest.mark.parametrize("name", ["gmm", "digits"])
@pytest.mark.parametrize("text", METHODS)
def test_work_and_state_of_a_fit(gmm, digits, name, text):
    """Predicted rows are measured rows, and the state gives back the flow that was fitted."""
    task, reward = world_of(name, gmm, digits)
    method, spec = made(text), ProblemSpec(task.event_shape)
    problem = fit_problem(task, reward)
    fitted = method.fit(problem)
    assert problem.problem.meter.work().same_rows(method.fit_work(spec)), text
    assert all(math.isfinite(value) for value in fitted.record.values())
    assert method.rank == 0 or all("lora_" in name for name in fitted.state)
    x, work = sampled(task, method, fitted.state, 6)
    assert work.same_rows(method.work(spec) * 6) and torch.isfinite(x).all()
    with pytest.raises(UserError, match="do not belong"):
        adapters.restore(task.trainable_flow, 0 if method.rank else 2, fitted.state)


class Dying(LinearReward):
    """A reward whose process is killed at a call."""

    calls = 0

    def __call__(self, x, condition):
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt
        return super().__call__(x, condition)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (METHODS[0], 12),
        (METHODS[6], 7),
        (METHODS[8], 6),
        (METHODS[10], 6),
        (METHODS[12], 3),
        (METHODS[13], 3),
        (METHODS[15], 3),
        (METHODS[17], 6),
        (METHODS[19], 12),
    ],
)
def test_a_fit_is_a_function_of_its_seed_and_can_be_resumed(gmm, tmp_path, text, calls):
    """Same bits twice, and after a kill, with the same ledger; other bits from another seed."""
    method, reward = made(text.replace("iterations=5", "iterations=8")), LinearReward.create()
    whole = method.fit(fit_problem(gmm, reward))
    again = method.fit(fit_problem(gmm, reward))
    other = method.fit(fit_problem(gmm, reward, seed=1))
    dying = Dying.create()
    dying.calls = calls
    with pytest.raises(KeyboardInterrupt):
        method.fit(fit_problem(gmm, dying, workdir=tmp_path))
    assert list((tmp_path / "fit").iterdir()), "killed before the first checkpoint"
    resumed = fit_problem(gmm, reward, workdir=tmp_path)
    later = method.fit(resumed)
    for name, value in whole.state.items():
        assert torch.equal(value, again.state[name]) and torch.equal(value, later.state[name])
    assert any(not torch.equal(value, other.state[name]) for name, value in whole.state.items())
    assert resumed.problem.meter.work().same_rows(method.fit_work(ProblemSpec((2,))))


def test_what_a_method_needs():
    spelled = {
        "mfm-ft": {Need.FIT, Need.FLOW_MAP},
        "mfm-ft:posterior=exact": {Need.FIT, Need.POSTERIOR},
        "mfm-ft:posterior=glass,estimator=shifted": {Need.FIT},
        "mfm-ft:estimator=G": {Need.FIT, Need.REWARD_GRADIENT, Need.FLOW_MAP},
        "mfm-ft:posterior=exact,estimator=G": {
            Need.FIT,
            Need.REWARD_GRADIENT,
            Need.PATHWISE_POSTERIOR,
        },
        "itm": {Need.FIT},
        "adjoint-matching": {Need.FIT, Need.REWARD_GRADIENT},
        "draft-k": {Need.FIT, Need.REWARD_GRADIENT},
        "flow-grpo": {Need.FIT},
        "flow-map-grpo": {Need.FIT},
        "diffusion-nft": {Need.FIT},
        "awm": {Need.FIT},
        "vgg-flow": {Need.FIT, Need.REWARD_GRADIENT},
    }
    for text, needs in spelled.items():
        assert made(text).needs == needs, text


def test_bad_parameters_are_said():
    for text in (
        "adjoint-matching:matched=20",
        "draft-k:last=30",
        "flow-grpo:batch=100",
        "awm:batch=100",
    ):
        with pytest.raises(UserError, match="must be"):
            made(text)


# -- what a fit reaches ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "mfm-ft:iterations=120,batch=128",
        "itm:iterations=150,batch=256",
        "itm:iterations=150,batch=256,rank=8,learning_rate=0.01",
        "adjoint-matching:iterations=60,batch=32,fit_steps=12,matched=4",
    ],
)
def test_a_short_fit_halves_the_distance_to_the_tilted_law(gmm, text):
    """Along (1, -1): all modes move, none changes weight; KL of the tilted law is 2."""
    method, reward = made(f"{text},steps=30"), LinearReward.create(a=(1.0, -1.0))
    fitted = method.fit(fit_problem(gmm, reward, strength=2.0))
    tilted = gmm.oracle(reward, 2.0).tilted
    exact, base = (m.sample(2000, torch.Generator().manual_seed(3)) for m in (tilted, gmm.mixture))
    x, _ = sampled(gmm, method, fitted.state, 2000)
    assert sliced_w2(x, exact) < 0.5 * sliced_w2(base, exact)


def test_draft_goes_past_the_tilted_law(gmm):
    """A reward maximiser without a pull to the base model: more reward than was asked for."""
    method, reward = made("draft-k:iterations=80,learning_rate=0.001,last=3"), LinearReward.create()
    fitted = method.fit(fit_problem(gmm, reward))
    x, _ = sampled(gmm, method, fitted.state, 1000)
    tilted = gmm.oracle(reward, 1.0).tilted.mean()
    assert reward(x, None).mean() > 1.3 * reward(tilted[None], None)
