"""Fine-tuning: fixed points in closed form, the ledger, resuming, LoRA, and what a fit reaches."""

import math

import numpy as np
import pytest
import torch

from bench.api import FitProblem, Linear, Need, Problem, ProblemSpec, UserError
from bench.core import adapters, plugins, quadratic
from bench.core.guarded import metered_clone
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.problem import MeteredFlow, MeteredMap
from bench.metrics.two_sample import sliced_w2
from bench.models.exact import MixtureFlow
from bench.models.mixture import Mixture
from bench.tasks.digits import Digits
from bench.tasks.gmm import PaperMixture, RandomMixture
from methods import adjoint, draft, grpo, matching_losses
from rewards.digits import ClassMixture
from rewards.quadratic import LinearReward

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


# -- fixed points of the matching losses: one Gaussian, expectations by quadrature ----------------

MEAN, VARIANCE = 0.3, 0.7
NODES, WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(120))
WEIGHTS = WEIGHTS / math.sqrt(2 * math.pi)
REWARDS = {
    "linear": quadratic.linear(torch.tensor([1.7], dtype=DOUBLE)),
    "well": quadratic.well(torch.tensor([1.0], dtype=DOUBLE), 3.0),
}


def gaussian_world():
    mixture = Mixture(
        torch.ones(1, dtype=DOUBLE),
        torch.tensor([[MEAN]], dtype=DOUBLE),
        torch.tensor([[[VARIANCE]]], dtype=DOUBLE),
    )
    t = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=DOUBLE)
    x = torch.tensor([[-1.0], [0.5], [1.2], [-0.4]], dtype=DOUBLE)
    return mixture, x, t


def posterior_draws(mixture, x, t):
    """All quadrature nodes of p(x1 | x_t = x): (node, batch, 1), differentiable in x."""
    post = mixture.posterior(x, t)
    return post.mean[:, 0] + NODES[:, None, None] * post.factor[:, 0, :, 0]


def expectation(values):
    """Over the nodes, the first dimension."""
    return torch.einsum("n,nbd->bd", WEIGHTS, values)


def mfm_expected_residual(reward, b_theta, variance, log_scale):
    mixture, x, t = gaussian_world()
    x.requires_grad_()
    x1 = posterior_draws(mixture, x, t)
    rho = (reward(x1) - log_scale(x.detach(), t)).exp()
    (gradient,) = torch.autograd.grad((WEIGHTS @ rho).sum(), x)
    half = matching_losses.half_variance(Linear(), t, variance)
    b = mixture.velocity(x.detach(), t)
    return matching_losses.mfm_residual(
        b_theta, b, WEIGHTS @ rho.detach(), half[:, None] * gradient
    )


def no_scale(x, t):
    return torch.zeros_like(t)


def some_scale(x, t):
    return x[:, 0].sin() + 3 * t


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("log_scale", [no_scale, some_scale])
def test_mfm_ft_fixed_point_is_the_tilted_velocity(reward, log_scale):
    mixture, x, t = gaussian_world()
    tilted = mixture.velocity(x, t) + Linear().tilt(mixture.shift(x, t, reward), t)
    residual = mfm_expected_residual(reward, tilted, "schedule", log_scale)
    assert residual.abs().max() < 1e-9
    away = mfm_expected_residual(reward, tilted + 0.1, "schedule", log_scale)
    assert away.min() > 1e-4, "the pull back to the fixed point must be positive"


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
def test_the_release_constant_moves_mfm_ft_off_the_tilted_law(reward):
    """sigma^2 = 200: the fixed point is b + 100 grad V, and it does not vanish at t -> 1."""
    mixture, x, t = gaussian_world()
    b, slope = mixture.velocity(x, t), mixture.value_gradient(x, t, reward)
    assert mfm_expected_residual(reward, b + 100 * slope, "release", no_scale).abs().max() < 1e-7
    scheduled = b + Linear().half_variance(t)[:, None] * slope
    assert torch.allclose(scheduled, b + Linear().tilt(mixture.shift(x, t, reward), t))
    assert mfm_expected_residual(reward, scheduled, "release", no_scale).abs().min() > 0.1


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("log_scale", [no_scale, some_scale])
def test_itm_fixed_point_is_the_tilted_velocity(reward, log_scale):
    mixture, x, t = gaussian_world()
    b = mixture.velocity(x, t)
    tilted = b + Linear().tilt(mixture.shift(x, t, reward), t)
    x1 = posterior_draws(mixture, x, t)
    rho, u = (reward(x1) - log_scale(x, t)).exp(), (x1 - x) / (1 - t)[:, None]
    for b_theta, zero in ((tilted, True), (tilted + 0.1, False)):
        each = [matching_losses.itm_residual(b_theta, b, r, v) for r, v in zip(rho, u, strict=True)]
        residual = expectation(torch.stack(each))
        assert (residual.abs().max() < 1e-9) if zero else (residual.min() > 1e-4)


def test_the_pull_has_the_residual_as_gradient():
    b_theta, residual = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    loss = matching_losses.pull(b_theta, residual)
    (gradient,) = torch.autograd.grad(loss, b_theta)
    assert torch.allclose(gradient, 2 * residual / 6)
    assert torch.allclose(loss, residual.square().sum(-1).mean())


def test_the_scale_of_rho_depends_on_the_point_and_bounds_rho(gmm):
    problem = fit_problem(gmm, LinearReward.create(a=(1.0, 1.0)))
    constant, point = (
        matching_losses.log_scale(problem, name, 0)(gmm.draw_data(50, torch.Generator()))
        for name in ("constant", "point")
    )
    assert float(constant.std()) == 0
    assert bool((point >= constant).all()) and float(point.std()) > 0


# -- adjoint matching -----------------------------------------------------------------------------


def test_the_lean_adjoint_is_the_gradient_through_the_rest_of_the_rollout(gmm):
    """a_k = d r(x_K) / d x_k at fixed noise, for rollouts of the base model."""
    steps, grid = 6, adjoint.jittered_grid(6, 0.3)
    reward = LinearReward.create(a=(1.0, -0.5))
    reward.bind(gmm)
    x0, z = torch.randn(5, 2), torch.randn(5, steps, 2)
    path = adjoint.rollout(gmm.flow, Linear(), x0, grid, z)
    found = adjoint.lean_adjoints(gmm.flow, Linear(), path, torch.tensor([1.0, -0.5]).expand(5, 2))
    assert len(path.states) == steps + 1 and len(found.a) == steps - 1
    for k in range(1, steps):
        x = path.states[k].clone().requires_grad_()
        end = torch.as_tensor(x)
        for j in range(k, steps):
            t, u = torch.full((5,), grid[j]), torch.full((5,), grid[j + 1])
            b = gmm.flow.velocity(end, t)
            end = adjoint.ancestral(Linear(), end, Linear().denoiser(b, end, t), t, u, z[:, j])
        (slope,) = torch.autograd.grad(reward(end, None).sum(), x)
        assert torch.allclose(found.a[k - 1], slope, atol=1e-5)


def test_adjoint_matching_regresses_on_the_tilted_velocity_of_a_gaussian():
    """A linear reward makes the adjoint deterministic: (sigma^2/2) a = C_t a_r / (1 - t)."""
    mixture, _, _ = gaussian_world()
    reward, grid = REWARDS["linear"], adjoint.jittered_grid(400, 0.5)
    z = torch.randn(3, 400, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    path = adjoint.rollout(MixtureFlow(mixture), Linear(), z[:, 0], grid, z)
    slope = reward.eta.expand(3, 1)
    found = adjoint.lean_adjoints(MixtureFlow(mixture), Linear(), path, slope)
    for k in (40, 200, 360):
        x, t = path.states[k], torch.full((3,), grid[k], dtype=DOUBLE)
        tilt = Linear().tilt(mixture.shift(x, t, reward), t)
        own = Linear().half_variance(t)[:, None] * found.a[k - 1]
        assert torch.allclose(own, tilt, rtol=0.02)


def test_strata_are_in_range_apart_and_even():
    u = torch.tensor([0.0, 0.5, 0.999])
    assert adjoint.strata(u, 9).tolist() == [0, 4, 8]
    assert adjoint.strata(torch.full((5,), 0.999999), 5).tolist() == [0, 1, 2, 3, 4]
    grid = adjoint.jittered_grid(5, 0.25)
    assert grid[0] == 0 and grid[-1] == 1 and len(grid) == 6 and grid == sorted(grid)


# -- draft-k and flow-grpo ------------------------------------------------------------------------


def test_draft_differentiates_the_last_steps_only(gmm):
    """All steps: the gradient of the mean reward through the whole sampler; fewer: not."""
    x0, grid = torch.randn(16, 2), [0.0, 0.25, 0.5, 0.75, 1.0]
    gradients = {}
    for last in (1, 4):
        model = metered_clone(gmm.trainable_flow(), Meter())
        draft.truncated(model, x0, grid, last)[:, 0].sum().backward()
        gradients[last] = model.get_parameter("net.leave.1.bias").grad
    flow = gmm.trainable_flow()
    epsilon, bias, ends = 1e-2, flow.net.leave[1].bias, []
    for sign in (1, -1):
        with torch.no_grad():
            bias[0] = sign * epsilon
        ends.append(float(draft.truncated(flow, x0, grid, 1)[:, 0].detach().sum()))
    slope = (ends[0] - ends[1]) / (2 * epsilon)
    assert math.isclose(slope, float(gradients[4][0]), rel_tol=0.02)
    assert not math.isclose(slope, float(gradients[1][0]), rel_tol=0.02)


def test_random_truncation_is_known_beforehand():
    params = draft.DraftParams(last=8, fit_steps=50, truncation="random")
    drawn = draft.truncations(params, 2000)
    assert drawn[:100] == draft.truncations(params, 100)
    assert min(drawn) >= 1 and max(drawn) <= 50
    assert math.isclose(np.mean(drawn), 8, rel_tol=0.05) and 4 < np.std(drawn) < 6


TIMES = torch.tensor([0.2, 0.5, 0.8], dtype=DOUBLE)


def test_grpo_transition_is_the_paper_s_in_noise_time():
    """With s = 1 - t: mean x (1 + sigma^2/(2s) ds) + v (1 + sigma^2 (1-s)/(2s)) ds, v reversed."""
    a, ds, s = 0.7, -0.1, 1 - TIMES
    x, v = torch.randn(3, 4, dtype=DOUBLE), torch.randn(3, 4, dtype=DOUBLE)
    found = grpo.transition(Linear(), v, x, TIMES, TIMES - ds, a)
    variance = a**2 * s / (1 - s)
    first = (1 + variance / (2 * s) * ds)[:, None] * x
    mean = first + (1 + variance * (1 - s) / (2 * s))[:, None] * -v * ds
    assert torch.allclose(found.mean, mean)
    assert torch.allclose(found.deviation, (variance * -ds).sqrt())
    start = grpo.transition(Linear(), v, x, 0 * TIMES, TIMES, a)
    assert torch.isfinite(start.mean).all() and torch.isfinite(start.deviation).all()


def test_grpo_log_probabilities_are_averaged_over_dimensions():
    """mean = sum / d, for densities and divergences; the sum is the true one."""
    mean, there = torch.randn(2, 3, 2, 2, dtype=DOUBLE).unbind(0)
    step = grpo.Transition(mean, TIMES)
    truth = torch.distributions.Normal(mean.flatten(1), TIMES[:, None])
    log_p = truth.log_prob(there.flatten(1)).sum(1)
    assert torch.allclose(grpo.log_density(there, step, "sum"), log_p)
    assert torch.allclose(grpo.log_density(there, step, "mean"), log_p / 4)
    other = grpo.Transition(there, TIMES)
    away = torch.distributions.Normal(there.flatten(1), TIMES[:, None])
    kl = torch.distributions.kl_divergence(truth, away).sum(1)
    assert torch.allclose(grpo.divergence(step, other, "sum"), kl)
    assert torch.allclose(grpo.divergence(step, other, "mean"), kl / 4)
    assert grpo.GRPOParams().log_prob == "mean"


def test_grpo_advantages_know_neither_strength_nor_offset():
    r = torch.randn(24, dtype=DOUBLE) * 5
    for spread in ("group", "batch"):
        one = grpo.advantages(r, 6, spread)
        assert torch.allclose(one, grpo.advantages(30 * r + 7, 6, spread), atol=1e-3)
        assert one.reshape(4, 6).mean(1).abs().max() < 1e-9
    within = grpo.advantages(r, 6, "group").reshape(4, 6).std(1)
    assert torch.allclose(within, torch.ones(4, dtype=DOUBLE), atol=1e-3)


def test_grpo_clips_only_what_would_go_further():
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    objective = grpo.clipped_objective(ratio, advantage, 0.2)
    assert torch.allclose(objective, torch.tensor([1.2, 0.5, -1.5, -0.8]))
    (gradient,) = torch.autograd.grad(objective.sum(), ratio)
    assert gradient.tolist() == [0.0, 1.0, -1.0, 0.0]


def test_grpo_starts_with_the_policy_gradient(gmm):
    """At the old policy the gradient is that of -mean A log pi, and the KL to the base is zero."""
    method = grpo.FlowGRPO.create(batch=12, group=6, fit_steps=4)
    problem = fit_problem(gmm, LinearReward.create())
    model = problem.trainable_flow()
    seen = method._experience(problem, model, 0)
    losses = method._losses(model, Linear(), seen)
    bias = model.get_parameter("net.leave.1.bias")
    (own,) = torch.autograd.grad(losses["policy"], bias)
    now = grpo.transition(Linear(), model.velocity(seen.x, seen.t), *seen[:3], 0.7)
    plain = -(seen.advantage * grpo.log_density(seen.there, now, "mean")).mean()
    assert torch.allclose(own, torch.autograd.grad(plain, bias)[0], rtol=1e-3, atol=1e-6)
    assert float(losses["kl"].detach()) < 1e-10


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
    [(METHODS[0], 12), (METHODS[6], 7), (METHODS[8], 6), (METHODS[10], 6), (METHODS[12], 3)],
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
        "mfm-ft": {Need.FIT, Need.REWARD_GRADIENT, Need.FLOW_MAP},
        "mfm-ft:posterior=exact": {Need.FIT, Need.REWARD_GRADIENT, Need.PATHWISE_POSTERIOR},
        "mfm-ft:posterior=glass": {Need.FIT, Need.REWARD_GRADIENT},
        "itm": {Need.FIT},
        "adjoint-matching": {Need.FIT, Need.REWARD_GRADIENT},
        "draft-k": {Need.FIT, Need.REWARD_GRADIENT},
        "flow-grpo": {Need.FIT},
    }
    for text, needs in spelled.items():
        assert made(text).needs == needs, text


def test_bad_parameters_are_said():
    for text in ("adjoint-matching:matched=20", "draft-k:last=30", "flow-grpo:batch=100"):
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
