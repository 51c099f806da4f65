"""Gibbs moves leave the tilted law where it is, and reach it from a pool of base draws."""

import math

import pytest
import torch

from bench.core.integrate import filled
from bench.core.shifted import Tilt
from bench.loops.moves import Members, Redraw, golden_times
from bench.loops.posteriors import PosteriorChoice
from bench.metrics.two_sample import sliced_w2
from methods.particles.gibbs import Gibbs
from methods.search.sir import SIR
from tests.worlds.planned_problems import problem_of, reference_of

WELL = ("gmm:dimension=2", "quadratic:strength=0.3")
TILTS = {"posterior": (0.0, 0.0), "shifted": (0.8, 0.3)}


@pytest.mark.parametrize("name", TILTS)
@pytest.mark.parametrize("task", ["gmm:dimension=2", "gmm:dimension=16"])
def test_fifty_rounds_keep_the_tilted_law(task, name):
    """From exact draws: means and covariances within 3 standard errors, for any tilt."""
    n, reward = 4000, "quadratic:strength=0.3"
    problem = problem_of(task, reward, n=n)
    x1 = reference_of(task, reward, n)
    now = Members(x1[:, None], problem.reward(x1)[:, None].double())
    c, kappa = TILTS[name]
    tilt = Tilt(torch.full_like(x1, c), filled(kappa, x1))
    redraw = Redraw(PosteriorChoice("exact"), draws=3)
    for k, t in enumerate(golden_times(50, 0.2, 0.9)):
        now, moved = redraw(problem, now, k, t, tilt)
        assert moved > 0.2  # the chain does not stand still
    before, after = x1.double(), now.x[:, 0].double()
    assert float((before - after).square().mean()) > 0.5 * float(before.var(0).mean())
    d = x1.shape[1]
    # 2 d + d (d - 1) / 2 statistics: 3 errors for each, 4 for the largest of all.
    exact = reference_of(task, reward, 100_000, seed=7).double()
    gap = (after.mean(0) - exact.mean(0)).abs() / (exact.var(0) / n).sqrt()
    centred = exact - exact.mean(0)
    products = (centred[:, :, None] * centred[:, None, :]).flatten(1)
    error = products.std(0) / math.sqrt(n)
    off = (after.T.cov() - exact.T.cov()).abs().flatten() / error
    both = torch.cat([gap, off])
    assert float(both.max()) < 4.2 and float((both > 3).double().mean()) < 0.03, (d, both.max())


def test_the_choice_is_in_detailed_balance():
    """Given draws of q, current and proposed state swap at equal rates under the tilted law.

    Two states of a discrete x1: p = (.7, .3), r = (0, 1.5); q, the posterior, is p itself.
    """
    p, r = torch.tensor([0.7, 0.3]).double(), torch.tensor([0.0, 1.5]).double()
    target = p * r.exp() / (p * r.exp()).sum()

    def kernel(draws):
        """P(next | current) of the selection among `draws` proposals, by enumeration."""
        out = torch.zeros(2, 2).double()
        for current in range(2):
            for code in range(2**draws):
                bits = [current, *((code >> j) & 1 for j in range(draws))]
                chance = math.prod(float(p[b]) for b in bits[1:])
                weight = r[bits].softmax(0)
                for place, state in enumerate(bits):
                    out[current, state] += chance * weight[place]
        return out

    for draws in (1, 2, 5):
        flow = target[:, None] * kernel(draws)
        assert torch.allclose(flow, flow.T, atol=1e-12)


LINEAR, QUADRATIC = "linear:strength=3.640", "quadratic:strength=0.7682"


@pytest.mark.parametrize("reward", [LINEAR, QUADRATIC, "inverse"])
def test_it_reaches_the_tilted_law_where_the_pool_alone_does_not(reward):
    """Ten nats, three, and a sharp likelihood, in 16 dimensions."""
    n, task = 1024, "gmm:dimension=16"
    exact = [reference_of(task, reward, n, seed) for seed in range(8)]
    floor = sum(sliced_w2(exact[k], exact[k + 4]) for k in range(4)) / 4

    def distance(**values):
        method = Gibbs.create(posterior="exact", **values)
        return sliced_w2(method.sample(problem_of(task, reward, n=n), n).x, exact[0])

    assert distance() < 1.4 * floor
    if reward == LINEAR:
        assert distance(rounds=1, low=0.99, high=0.99) > 2 * floor
        assert distance(proposal="posterior") > 1.5 * floor


@pytest.mark.parametrize(
    "method", [SIR.create(candidates=8), Gibbs.create(particles=4, posterior="exact", rounds=2)]
)
def test_the_mean_of_the_pool_estimates_z(method):
    problems = [problem_of(*WELL, n=64, seed=seed) for seed in range(40)]
    estimates = torch.tensor([method.sample(problem, 64).log_z for problem in problems]).double()
    z = (estimates - problems[0].oracle.log_z).exp()
    assert abs(float(z.mean()) - 1) < 3 * float(z.std()) / math.sqrt(len(z))


def test_resampling_is_the_base_model_with_one_draw_and_the_tilted_law_with_many():
    task, reward, n = "gmm:dimension=2", "quadratic:strength=1.0", 512
    exact = [reference_of(task, reward, n, seed) for seed in range(2)]
    one, few, many = (
        SIR.create(candidates=c).sample(problem_of(task, reward, n=n), n).x for c in (1, 8, 128)
    )
    problem = problem_of(task, reward, n=n)
    zero = filled(0.0, problem.x0())
    assert torch.allclose(one, problem.flow_map.jump(problem.x0(), zero, zero + 1), atol=1e-5)
    gaps = [sliced_w2(x, exact[0]) for x in (one, few, many, exact[1])]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] and gaps[2] < 3 * gaps[3], gaps
