"""What the paper's release can do in training: guided data objectives, phases, starts, powers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.core import glass
from bench.core.params import UserError
from bench.core.paths import Linear
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.models.mixture import Mixture
from bench.training import guidance, losses, weighting
from bench.training.draws import make_draw, make_draws
from bench.training.maps import guided_draw, map_losses, start_from_flow, train_map
from bench.training.objectives import MapObjective
from bench.training.sources import DataSource
from bench.training.trainer import TrainConfig, Trainer
from tests.worlds.small_training import small

W, NULL = 2.5, 2
MEANS = torch.tensor([[-1.0, 0.5], [1.5, -0.5]])
CLASSES = [Mixture(torch.ones(1), MEANS[k : k + 1], 0.3 * torch.eye(2)[None]) for k in (0, 1)]
BOTH = Mixture(torch.full((2,), 0.5), MEANS, 0.3 * torch.eye(2).expand(2, 2, 2))


# -- guidance, against exact mixtures --------------------------------------------------------------


class ExactMap:
    """The fixed point of model guidance on two Gaussian classes, on the diagonal of a map."""

    def __init__(self, known: Known = Known()):  # noqa: B008
        self.known = known

    def given(self, known):
        return ExactMap(known)

    def velocity(self, x_bar, s, u, x, t):
        def of(law):
            return glass.posterior_velocity(Linear(), law.velocity, x, t)(x_bar, s)

        none = of(BOTH)
        if self.known.label is None:
            return none
        one, other = (of(law) for law in CLASSES)
        own = torch.where((self.known.label == 0)[:, None], one, other)
        return none + self.known.scale[:, None] * (own - none)


def labelled_draw(n):
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (n,), generator=g)
    x1 = MEANS[label] + 0.3**0.5 * torch.randn(n, 2, generator=g)
    s, t = 0.9 * torch.rand(2, n, generator=g)
    return make_draw(x1, t, s, s, g), Known(label, torch.full((n,), W))


def test_guided_rows_of_the_data_objectives_learn_the_guided_velocity():
    """Residuals of the exact guided velocity have mean zero given what the map sees: they are
    uncorrelated with functions of it.  Without the shift they are far from that."""
    n = 40_000
    draw, known = labelled_draw(n)
    truth = ExactMap(known).velocity(draw.x_bar, draw.s, draw.s, draw.x, draw.t)
    guided = guided_draw(ExactMap(), draw, known)
    seen = [torch.ones(n), draw.x_bar[:, 0], draw.x[:, 1], known.label.float(), draw.s]

    def worst(one):
        prediction, target = losses.diagonal_from_data(ExactMap(known), ExactMap(), one)
        assert torch.equal(prediction, truth)
        products = [((target - truth)[:, k] * f) for k in (0, 1) for f in seen]
        return max(float(p.mean().abs() / (p.std() / n**0.5)) for p in products)

    assert worst(guided) < 4.5
    assert worst(draw) > 30
    found = losses.data_velocity(ExactMap(), guided)(draw.x_bar, draw.s)
    assert torch.equal(found, draw.x1 - draw.noise + guided.shift)


def test_rows_that_are_not_guided_keep_their_target():
    draw, known = labelled_draw(50)
    scale = torch.where(torch.arange(50) % 2 == 0, W, 1.0)
    guided = guided_draw(ExactMap(), draw, Known(known.label, scale))
    assert torch.equal(guided.shift[1::2], torch.zeros(25, 2))
    whole = guided_draw(ExactMap(), draw, Known(known.label, torch.full((50,), W)))
    assert torch.equal(guided.shift[::2], whole.shift[::2]) and float(whole.shift.std()) > 0.1
    nobody = guided_draw(ExactMap(), draw, Known(known.label, torch.ones(50)))
    assert torch.equal(nobody.data_velocity, draw.data_velocity)
    assert guided_draw(ExactMap(), draw, Known(known.label)) is draw


def test_only_objectives_from_data_are_guided(monkeypatch):
    asked = []
    monkeypatch.setattr("bench.training.maps.guided_draw", lambda *a: asked.append(1) or a[1])
    g = torch.Generator().manual_seed(0)
    source = DataSource(lambda n, _: (torch.ones(n, 2), Known()), torch.ones(9, 2))
    net = MetaFlowMapNet((2,), 8, 1)
    for diagonal, consistency, count in (
        ("distilled", "semigroup", 0), ("data", "semigroup", 2), ("distilled", "mean-flow", 2)
    ):  # fmt: skip
        asked.clear()
        recipe = small(diagonal=diagonal, consistency=consistency)
        map_losses(source, lambda _: BOTH.velocity, recipe)(net, net, g)
        assert len(asked) == count


def test_a_guided_teacher_is_taken_apart_and_put_together_again():
    """Its labelled velocities have scale 2.5 whatever it is told; any scale comes out exactly."""
    x, t = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), torch.full((6,), 0.4)
    label = torch.tensor([0, 1, 0, 1, NULL, NULL])
    none = BOTH.velocity(x, t)
    own = torch.where((label == 0)[:, None], *(law.velocity(x, t) for law in CLASSES))

    def teacher(known):
        guided = none + W * (own - none)
        return lambda *_: torch.where((known.label == NULL)[:, None], none, guided)

    for scale in (1.0, W, 4.0):
        told = Known(label, torch.full((6,), scale))
        found = guidance.recombined(teacher, NULL, W)(told)(x, t)
        expected = torch.where((label == NULL)[:, None], none, none + scale * (own - none))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def mixture_source():
    statistics = BOTH.sample(50, torch.Generator().manual_seed(0))
    return DataSource(lambda n, g: (BOTH.sample(n, g), Known()), statistics)


# -- phases ----------------------------------------------------------------------------------------


def test_the_diagonal_comes_first_and_pairs_widen_about_their_middle():
    recipe = small(diagonal_only=10, widening=20)
    widths = [recipe.width(k) for k in (0, 9, 10, 19, 29, 99)]
    assert widths == [0, 0, 1 / 20, 0.5, 1, 1]
    assert small().width(0) == 1
    _, pair = make_draws(torch.randn(200, 2), 2.0, torch.Generator().manual_seed(0))
    narrow = pair.narrowed(0.25)
    torch.testing.assert_close(narrow.u - narrow.s, 0.25 * (pair.u - pair.s))
    torch.testing.assert_close(narrow.u + narrow.s, pair.u + pair.s)
    torch.testing.assert_close(narrow.x_bar, Linear().noised(pair.x1, pair.noise, narrow.s))


def test_a_training_goes_through_its_phases(tmp_path):
    seen = []
    recipe = small(map_steps=6, diagonal_only=2, widening=2, batch=8)
    source = DataSource(
        lambda n, g: (BOTH.sample(n, g), Known()), BOTH.sample(50, torch.Generator())
    )
    phased = map_losses(source, lambda _: BOTH.velocity, recipe)
    assert [phased.at(k).width for k in range(6)] == [0, 0, 0.5, 1, 1, 1]
    net = MetaFlowMapNet((2,), 8, 1)
    config = TrainConfig(6, report_every=1)
    Trainer(net, phased, config, tmp_path, lambda _, found: seen.append(set(found))).run()
    assert seen == [{"diagonal"}] * 2 + [{"diagonal", "semigroup"}] * 4


def test_the_diagonal_alone_costs_what_it_says():
    whole, less = small(map_steps=10, batch=4), small(map_steps=10, batch=4, diagonal_only=4)
    first, both = (w.cost("paper-nfe") for w in (less.objective.terms[0].work, less.objective.work))
    assert whole.training()["map"] - less.training()["map"] == 4 * 4 * (both - first)
    assert less.shortened(0.5).diagonal_only == 2


# -- powers, optimisers, starts --------------------------------------------------------------------


def test_each_term_has_its_own_power():
    draws = make_draws(BOTH.sample(64, torch.Generator().manual_seed(0)), 2.0, torch.Generator())
    net = MetaFlowMapNet((2,), 8, 1)

    def value(**powers):
        both = MapObjective(**powers).build(BOTH.velocity)(net, net, *draws)
        return [float(both[name].detach()) for name in ("diagonal", "semigroup")]

    plain, odd = value(), value(consistency_power=1.0)
    assert odd[0] == plain[0] and odd[1] != plain[1]
    prediction, target = losses.semigroup(net, net, draws[1])
    expected = weighting.adaptively_weighted(prediction, target, 1.0)
    assert odd[1] == pytest.approx(float(expected.detach()))
    recipe = small(diagonal_power=0.25)
    assert recipe.objective.diagonal_power == 0.25


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "radam"])
def test_every_optimiser_resumes_in_the_same_bits(tmp_path, optimizer):
    def run(folder, stop_at=None):
        def step(model, _, generator):
            if trainer.step == stop_at:
                raise InterruptedError
            return {"mse": (model(torch.randn(8, 2, generator=generator)) - 1).square().mean()}

        torch.manual_seed(0)
        config = TrainConfig(20, warmup=3, optimizer=optimizer, schedule="linear",
                             checkpoint_every=4)  # fmt: skip
        trainer = Trainer(torch.nn.Linear(2, 1), step, config, folder)
        return trainer.run().state_dict()

    with pytest.raises(InterruptedError):
        run(tmp_path / "broken", stop_at=10)
    ends = [run(tmp_path / name) for name in ("broken", "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_names_that_are_none_suggest_the_nearest():
    for wrong, why in (
        ({"optimizer": "adamv"}, "unknown optimiser 'adamv': did you mean 'adam'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
        ({"start": "flows"}, "a map starts from random or flow, not 'flows'"),
        ({"widening": -1}, "give 0 or more"),
    ):
        with pytest.raises(UserError, match=why):
            small(**wrong)


@pytest.mark.parametrize("network", ["mlp", "unet", "dit"])
def test_a_map_that_starts_from_a_flow_is_the_flow_at_t_0(network):
    shape = (1, 8, 8)
    torch.manual_seed(0)
    flow = FlowNet(shape, 16, 1, 3, network)
    net = MetaFlowMapNet(shape, 16, 1, classes=3, network=network)
    for value in [*flow.parameters(), *net.parameters()]:
        torch.nn.init.normal_(value, std=0.1)
    flow.gaussian.fit(torch.randn(90, 64) @ torch.randn(64, 64))
    start_from_flow(net, flow)
    x, y = torch.randn(2, 5, *shape)
    s, u, t = torch.rand(3, 5)
    known = Known(torch.tensor([0, 1, 2, 3, 0]), torch.ones(5))
    b = flow.given(known).velocity(x, s)
    zero = torch.zeros_like(x), torch.zeros_like(s)
    torch.testing.assert_close(net.given(known).velocity(x, s, s, *zero), b, atol=1e-5, rtol=1e-4)
    if network != "mlp":  # whose Gaussian model knows the other times by itself
        v = net.given(known).velocity(x, s, u, y, t)
        torch.testing.assert_close(v, b, atol=1e-5, rtol=1e-4)


def test_a_recipe_starts_the_map_from_the_flow(tmp_path):
    flow = FlowNet((2,), 16, 1)
    torch.nn.init.normal_(flow.net.leave[1].weight)
    source = DataSource(
        lambda n, g: (BOTH.sample(n, g), Known()), BOTH.sample(50, torch.Generator())
    )
    recipe = small(start="flow", map_steps=0)
    world = source, lambda _: BOTH.velocity
    net = train_map(*world, recipe, 1, tmp_path / "a", print, flow)
    assert torch.equal(net.net.leave[1].weight, flow.net.leave[1].weight)
    with pytest.raises(UserError, match="no flow of ours to start the map from"):
        train_map(*world, recipe, 1, tmp_path / "b", print)
    with pytest.raises(UserError, match="give both the same width"):
        train_map(*world, replace(recipe, map_width=24), 1, tmp_path / "c", print, flow)
