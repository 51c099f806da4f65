"""DiffusionNFT and AWM: minimisers and fixed points by quadrature, and what their points are."""

import pytest
import torch

from bench.api import Linear
from methods.finetuning import forward_process as fp
from rewards.quadratic import LinearReward
from tests.worlds import small_fits
from tests.worlds.gaussian_quadrature import (
    DOUBLE,
    REWARDS,
    WEIGHTS,
    expectation,
    gaussian_world,
    posterior_draws,
)
from tests.worlds.small_fits import fit_problem, made, sampled

# A fixture: pytest looks for it in this module.
gmm = small_fits.gmm


# -- one Gaussian: all posterior draws at once ----------------------------------------------------


def covariance(mixture, x, t, score):
    """Cov(score(x1), u | x_t = x), (batch, 1), by quadrature."""
    x1 = posterior_draws(mixture, x, t)
    value, u = score(x1)[..., None], (x1 - x) / (1 - t)[:, None]
    return expectation(value * u) - expectation(value.expand_as(u)) * expectation(u)


def expected_slope(loss, v, mixture, old, base, score):
    """Gradient in v of E[loss | x_t = x] for the points of a world, with the policy's own draws."""
    _, x, t = gaussian_world()
    x1 = posterior_draws(mixture, x, t)
    u, v = (x1 - x) / (1 - t)[:, None], v.clone().requires_grad_()
    total = torch.zeros((), dtype=DOUBLE)
    for weight, one, gain in zip(WEIGHTS, u, score(x1), strict=True):
        total = total + weight * loss(v, fp.Seen(x, t, one, old, base, gain)).sum()
    return torch.autograd.grad(total, v)[0]


def unclipped_awm(v, seen):
    return fp.awm_losses(v, seen, 1e9)


def awm_with(beta):
    return lambda v, seen: unclipped_awm(v, seen) + beta * fp.mean_square(v - seen.base)


def nft(mix, widest):
    return lambda v, seen: fp.nft_losses(v, seen, mix, widest, fp.mean_square)


def standardised(mixture, reward):
    """The advantage (r - mean) / sd under the mixture's own data."""
    x1 = mixture.sample(200_000, torch.Generator().manual_seed(0))
    r = reward(x1)
    return (lambda x: (reward(x) - r.mean()) / r.std()), float(r.std())


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize(("mix", "widest"), [(1.0, 5.0), (0.1, 2.0)])
def test_nft_is_least_where_its_theorem_says(reward, mix, widest):
    """v = old + (2 / mix) E[r | x] (v_r - old), v_r the velocity of p r / Z, r = (1 + A/widest)/2.

    That is old + Cov(A, u | x) / (mix widest), as E[r | x](v_r - old) = E[r (u - old) | x].
    """
    mixture, x, t = gaussian_world()
    gain, _ = standardised(mixture, reward)
    old = mixture.velocity(x, t)
    x1 = posterior_draws(mixture, x, t)
    r, u = (1 + gain(x1)[..., None] / widest) / 2, (x1 - x) / (1 - t)[:, None]
    weight = expectation(r)
    theorem = old + 2 / mix * weight * (expectation(r * u) / weight - old)
    least = old + covariance(mixture, x, t, gain) / (mix * widest)
    assert torch.allclose(least, theorem, atol=1e-9)
    assert expected_slope(nft(mix, widest), least, mixture, old, old, gain).abs().max() < 1e-9
    assert expected_slope(nft(mix, widest), old, mixture, old, old, gain).abs().max() > 1e-2


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
def test_the_first_update_of_both_is_that_of_the_weighted_matching_loss(reward):
    """At v = old: -2 Cov(A, u | x), minus the derivative of the velocity in the strength of A."""
    mixture, x, t = gaussian_world()
    gain, sd = standardised(mixture, reward)
    old = mixture.velocity(x, t)
    slopes = [
        expected_slope(loss, old, mixture, old, old, gain)
        for loss in (nft(1.0, 5.0), nft(0.3, 2.0), unclipped_awm)
    ]
    assert all(torch.allclose(slopes[0], other, atol=1e-9) for other in slopes[1:])
    step = 1e-4 / sd
    ahead, behind = (Linear().tilt(mixture.shift(x, t, reward.scaled(s)), t) for s in (step, -step))
    assert torch.allclose(slopes[0], -2 * (ahead - behind) / 2e-4, atol=1e-5)


def tilted_to(strength, reward):
    """The tilted Gaussian and its velocity at the points of the world."""
    mixture, x, t = gaussian_world()
    tilted, _ = mixture.tilted(reward.scaled(strength))
    return tilted, tilted.velocity(x, t)


def residual_of_awm(strength, reward):
    """Slope of AWM's loss at the velocity tilted to `strength`, with beta = 1/(strength sd).

    The policy is that tilted Gaussian itself, so a zero is a fixed point.  In units of the push.
    """
    tilted, v = tilted_to(strength, reward)
    mixture, x, t = gaussian_world()
    gain, sd = standardised(tilted, reward)
    base, beta = mixture.velocity(x, t), 1 / (strength * sd)
    slope = expected_slope(awm_with(beta), v, tilted, v, base, gain) / (2 * beta)
    return (slope.norm() / (v - base).norm()).item()


def test_awm_has_a_tilted_fixed_point_only_where_covariances_do_not_change():
    """A linear reward: the tilted velocity itself.  A well of curvature 3: a fifth off and more."""
    assert residual_of_awm(1.3, REWARDS["linear"]) < 1e-9
    off = {strength: residual_of_awm(strength, REWARDS["well"]) for strength in (0.01, 0.3, 1.0)}
    assert off[0.01] < 0.03 and off[0.3] > 0.2 and off[1.0] > 0.4


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
def test_the_push_is_the_integral_of_covariances_of_which_awm_takes_the_last(reward):
    """v_s - b = integral over strengths of Cov_s(r, u | x): Simpson's rule over 200 strengths."""
    mixture, x, t = gaussian_world()
    strengths = torch.linspace(0, 1.3, 201, dtype=DOUBLE).tolist()
    rule = torch.tensor([1, *[4, 2] * 99, 4, 1], dtype=DOUBLE) * (1.3 / 200 / 3)
    at = [covariance(tilted_to(s, reward)[0], x, t, reward) for s in strengths]
    push = (rule[:, None, None] * torch.stack(at)).sum(0)
    assert torch.allclose(push, tilted_to(1.3, reward)[1] - mixture.velocity(x, t), atol=1e-6)


def test_the_adaptive_square_estimates_no_mean():
    """On a skewed law its slope at the mean is not zero; that of the plain square is."""
    u = torch.tensor([[0.0], [0.0], [3.0]], dtype=DOUBLE)
    for name, fair in (("velocity", True), ("adaptive", False)):
        v = u.mean(0, keepdim=True).expand(3, 1).clone().requires_grad_()
        loss = fp.REGRESSIONS[name](v - u, torch.ones(3, dtype=DOUBLE)).sum()
        slope = torch.autograd.grad(loss, v)[0].sum()
        assert (abs(float(slope)) < 1e-12) == fair


# -- the points -----------------------------------------------------------------------------------


def test_points_are_noised_afresh(gmm):
    """u scatters about b(x, t) as the posterior does: not so if the rollout's noise came back."""
    method = fp.AWM.create(batch=3000, group=24 * 5, points=2, fit_steps=60, start=0.3)
    problem = fit_problem(gmm, LinearReward.create())
    problem.problem.rows = range(1 << 20)
    seen = method._seen(problem, problem.trainable_flow(), 0)
    post = gmm.mixture.posterior(seen.x, seen.t)
    gamma = post.log_gamma.exp()
    mean = (gamma[..., None] * post.mean).sum(1)
    scatter = post.covariance.diagonal(dim1=-2, dim2=-1).sum(-1) + (
        (post.mean - mean[:, None]).square().sum(-1)
    )
    wanted = (gamma * scatter).sum(1) / (1 - seen.t) ** 2
    inner = seen.t < 0.95
    ratio = (seen.u - seen.base).square().sum(-1)[inner].sum() / wanted[inner].sum()
    assert 0.9 < float(ratio) < 1.1
    assert torch.equal(seen.advantage[:3000], seen.advantage[3000:])
    assert float(seen.advantage.abs().max()) <= 1.0


@pytest.mark.parametrize("text", ["diffusion-nft", "awm"])
def test_neither_strength_nor_offset_of_the_reward_matters(gmm, text):
    method = made(f"{text}:batch=48,fit_steps=4")
    problems = [fit_problem(gmm, LinearReward.create(), strength) for strength in (1.0, 30.0)]
    one, other = (method._seen(p, p.trainable_flow(), 0) for p in problems)
    assert torch.equal(one.x, other.x)
    assert torch.allclose(one.advantage, other.advantage, atol=1e-3)


@pytest.mark.parametrize(
    "text", ["diffusion-nft:mix=0.1", "diffusion-nft:mix=0.1,regression=velocity", "awm:start=0.02"]
)
def test_a_long_fit_goes_past_a_weak_tilt(gmm, text):
    """More reward than a strength of 0.1 asks for: the methods do not know the strength."""
    method, reward = made(f"{text},iterations=80,batch=96"), LinearReward.create(a=(1.0, -1.0))
    fitted = method.fit(fit_problem(gmm, reward, strength=0.1))
    x, _ = sampled(gmm, method, fitted.state, 1000)
    tilted = gmm.oracle(reward, 0.1).tilted.mean()
    assert reward(x, None).mean() > 3 * reward(tilted[None], None)
