"""Named objectives: their costs, their weights, their names, and the page that reports on them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.core.params import UserError
from bench.models.gaussian import GaussianModel
from bench.models.meta_flow_map import MetaFlowMapNet
from bench.models.mixture import Mixture, paper_mixture
from bench.training import weighting
from bench.training.draws import Draw, make_draw, sample_inner_times
from bench.training.objectives import CONSISTENCIES, DIAGONALS, MapObjective
from bench.training.recipes import Recipe
from bench.worlds import gmm_paper
from benchmarks import objectives as study

PAIRS = [(d, c) for d in DIAGONALS for c in CONSISTENCIES]


def draws(n=32):
    g = torch.Generator().manual_seed(0)
    x1 = paper_mixture(torch.float32).sample(n, g)
    t, on = torch.rand(2, n, generator=g)
    s, u = sample_inner_times(n, g)
    return make_draw(x1, t, on, on, g), make_draw(x1, t, s, u, g)


def carries_a_tangent(tensor):
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None


class Counted:
    """A map whose calls are counted, apart where a derivative is carried along."""

    def __init__(self):
        torch.manual_seed(0)
        self.net = MetaFlowMapNet((2,), width=8, depth=1)
        torch.nn.init.normal_(self.net.net.leave[1].weight)
        self.forward = self.jvp = 0

    def velocity(self, x_bar, s, u, x, t):
        carried = any(map(carries_a_tangent, (x_bar, s, u)))
        self.jvp += carried
        self.forward += not carried
        return self.net.velocity(x_bar, s, u, x, t)


@pytest.mark.parametrize(("diagonal", "consistency"), PAIRS)
def test_every_objective_costs_what_it_says(diagonal, consistency):
    """Calls of the map and of the teacher, counted, against the declared rows per datum."""
    asked = 0
    mixture = paper_mixture(torch.float32)

    def teacher(x, t):
        nonlocal asked
        asked += 1
        return mixture.velocity(x, t)

    objective, net = MapObjective(diagonal, consistency), Counted()
    found = objective.build(teacher)(net, net, *draws())
    assert set(found) == {"diagonal", consistency}
    rows = objective.work
    assert (net.forward, net.jvp, asked) == (rows.map.forward, rows.map.jvp, rows.flow.forward)
    assert objective.needs_teacher == (asked > 0)
    sum(found.values()).backward()
    assert float(net.net.net.leave[1].weight.grad.abs().sum()) > 0


def test_the_training_cost_follows_from_the_names():
    """The default: 2 forwards, 2 backwards, a teacher row, 2 rows of the semigroup's target."""
    recipe = Recipe(flow_steps=0, map_steps=10, batch=4, map_width=8)
    assert recipe.training()["map"] == 7 * 10 * 4
    cheaper = Recipe(0, 10, 4, 8, diagonal="data", consistency="mean-flow")
    assert cheaper.training()["map"] == (1 + 1 + 2 + 1 + 2) * 10 * 4


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match="did you mean 'semigroup'"):
        MapObjective(consistency="semi-group")
    with pytest.raises(UserError, match="unknown diagonal objective 'teacher'"):
        Recipe(0, 1, 1, 8, diagonal="teacher").training()


def test_the_spread_is_that_of_the_target_on_standard_normal_data():
    """Var(x1 - noise | x, x_bar) = 1 / ((1-s)^2 (1 + rho^2 + sigma^2)), ratios beta/alpha."""
    t, s = torch.rand(2, 50, generator=torch.Generator().manual_seed(0)).double() * 0.9
    rho, inner = t / (1 - t), s / (1 - s)
    expected = 1 / ((1 - s).square() * (1 + rho.square() + inner.square()))
    zero = torch.zeros(50, 2).double()
    found = weighting.data_variance(Counted(), Draw(zero, zero, t, zero, s, s, s))
    assert torch.allclose(found, expected)


def test_the_mean_flow_weight_measures_the_jacobian_and_not_the_rows_own_noise():
    """On the exact map of N(0, I) at t = 0, X_{0,1} is the identity: A = I, and the factor is 2."""
    net = MetaFlowMapNet((2,), width=8, depth=1)  # its Gaussian model is N(0, I), its network zero
    n, g = 20, torch.Generator().manual_seed(0)
    zero, noise = torch.zeros(n), torch.randn(n, 2, generator=g)
    draw = Draw(noise, noise, zero, noise, zero, zero + 1, zero)
    plain = weighting.data_variance(net, draw)
    assert torch.allclose(weighting.mean_flow_variance(net, draw), 2 * plain)
    one_row = replace(draw, x1=noise + torch.eye(n, 2))
    same = weighting.mean_flow_variance(net, one_row)
    assert torch.allclose(same, weighting.mean_flow_variance(net, draw))


def test_noisy_targets_keep_their_mean_only_under_weights_that_ignore_the_residual():
    """Skewed noise (exponential, mean 1): where does the gradient in the prediction vanish?"""
    n = 200_000
    target = torch.empty(n, 1).exponential_(generator=torch.Generator().manual_seed(0))

    def pull(loss):
        at = torch.ones(1, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(at.expand(n, 1), target), at)
        return float(gradient)

    plain = pull(lambda p, y: weighting.standardised(p, y, torch.ones(n)))
    weighted = pull(lambda p, y: weighting.adaptively_weighted(p, y, 0.5))
    assert abs(plain) < 5 * 2 / math.sqrt(n)
    assert weighted > 0.1  # pulled down, towards the median log 2


class GaussianFamily(nn.Module):
    """The exact map of N(0, e^{p0 + p1 (u - s)}): right on the diagonal if p0 is, right beside it
    if p1 = 0 as well."""

    def __init__(self, on, off):
        super().__init__()
        self.on, self.off = nn.Parameter(torch.tensor(on)), nn.Parameter(torch.tensor(off))
        self.gaussian = GaussianModel(1)

    def velocity(self, x_bar, s, u, x, t):
        self.gaussian.eigenvalues = (self.on + self.off * (u - s))[:, None].exp()
        return self.gaussian.skip(x_bar, s, u, x, t).velocity


@pytest.mark.parametrize(("diagonal", "consistency"), PAIRS)
def test_every_objective_finds_the_exact_map_of_a_gaussian(diagonal, consistency):
    """From a wrong variance, that also differs off the diagonal, to the truth on and off it."""
    mixture = Mixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1, 1), 0.5))
    family, truth = GaussianFamily(0.3, 0.8), math.log(0.5)
    both = MapObjective(diagonal, consistency).build(mixture.velocity)
    optimizer = torch.optim.Adam(family.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    g = torch.Generator().manual_seed(0)
    for _ in range(200):
        x1, t, on = (
            mixture.sample(256, g),
            torch.rand(256, generator=g),
            torch.rand(256, generator=g),
        )
        s, u = sample_inner_times(256, g)
        pair = (make_draw(x1, t, *times, g) for times in ((on, on), (s, u)))
        optimizer.zero_grad()
        sum(both(family, family, *pair).values()).backward()
        optimizer.step()
        schedule.step()
    assert float(family.on.detach()) == pytest.approx(truth, abs=0.1)
    assert float(family.off.detach()) == pytest.approx(0, abs=0.15)


def test_the_page_shows_the_figures_that_were_measured():
    """docs/objectives.md holds the table of results/objectives.json for today's recipes; objectives
    in the default parametrisation meet what is asked: 1.5 floors for the best, 3 for the others."""
    results = study.kept()
    assert set(results) == set(study.VARIANTS)
    assert study.table(results) in study.PAGE.read_text(encoding="utf-8")
    worst = {
        name: max(study.ratio(figures, t) for t in study.TIMES)
        for name, figures in results.items()
        if study.recipe(name).parametrisation == gmm_paper.RECIPE.parametrisation
    }
    assert len(worst) == len(study.VARIANTS) - 2
    assert min(worst.values()) <= 1.5 and max(worst.values()) <= 3
