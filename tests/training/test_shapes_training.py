"""Training in the shapes world: guidance, the autoencoder, losses, pairs."""

from dataclasses import replace

import pytest
import torch

from bench.core.integrate import euler, integrate, uniform_grid
from bench.models.autoencoder import Autoencoder, Code
from bench.models.clip_small import SmallCLIP
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.models.mixture import Mixture
from bench.models.nets import GUIDED_SCALE, ModulatedMLP
from bench.training import guidance, losses
from bench.training.maps import flow_losses
from bench.worlds.shapes import clip, latents, polish
from bench.worlds.shapes.latents import make_pool
from bench.worlds.shapes.recipe import RECIPE
from tests.worlds.seeded import generator

# -- guidance --------------------------------------------------------------------------------------


def test_model_guidance_has_the_guided_velocity_as_fixed_point():
    """v = v_none + w (v_y - v_none), w = 1 / (1 - omega), on two Gaussian classes."""
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    both = Mixture(torch.tensor([0.3, 0.7]).double(), means, eye.expand(2, 2, 2))
    one = Mixture(torch.ones(1).double(), means[:1], eye[None])
    x, t = torch.randn(50, 2, dtype=torch.float64, generator=generator()), torch.rand(50).double()
    conditional, unconditional = one.velocity(x, t), both.velocity(x, t)
    for w in (1.0, 2.5):
        v = conditional.clone()
        for _ in range(200):  # the regression target's conditional mean, over and over
            v = guidance.model_guidance(conditional, v, unconditional, torch.full_like(t, w))
        torch.testing.assert_close(v, unconditional + w * (conditional - unconditional))


def test_label_dropout_and_scales():
    label = torch.randint(4, (20_000,), generator=generator())
    dropped = guidance.drop_labels(label, 4, 0.2, generator(1))
    assert abs(float((dropped == 4).float().mean()) - 0.2) < 0.01
    assert torch.equal(dropped[dropped != 4], label[dropped != 4])
    scale = guidance.draw_scales(dropped, 4, 2.5, 0.5, generator(2))
    assert set(scale.tolist()) == {1.0, 2.5} and (scale[dropped == 4] == 1).all()


# -- networks --------------------------------------------------------------------------------------


def test_an_unconditional_network_has_no_parameters_for_labels():
    torch.manual_seed(0)
    plain = ModulatedMLP(4, 2, 1, 8, 1)
    torch.manual_seed(0)
    labelled = ModulatedMLP(4, 2, 1, 8, 1, classes=3)
    extra = labelled.state_dict().keys() - plain.state_dict().keys()
    assert {name.partition(".")[0] for name in extra} == {"labels"}
    for name, value in plain.state_dict().items():
        assert torch.equal(value, labelled.state_dict()[name])


def trained_a_bit(net):
    """Zero-initialised layers hide what they are told."""
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(1))
    return net


@pytest.mark.parametrize("form", ["gaussian", "raw", "diagonal"])
def test_null_label_scale_and_batch_of_a_map(form):
    net = trained_a_bit(MetaFlowMapNet((5,), 16, 1, form, classes=4))
    x, x_bar = torch.randn(2, 6, 5, generator=generator())
    s, u, t = torch.rand(3, 6, generator=generator()).sort(0).values
    y, w = (
        torch.tensor([0, 1, 2, 3, 4, 0]),
        torch.tensor([1.0, GUIDED_SCALE, 1, 1, 1, GUIDED_SCALE]),
    )
    v = net.given(Known(y, w)).velocity(x_bar, s, u, x, t)
    torch.testing.assert_close(v[4:5], net.velocity(x_bar[4:5], s[4:5], u[4:5], x[4:5], t[4:5]))
    plain = net.given(Known(y)).velocity(x_bar, s, u, x, t)
    changed = (v - plain).abs().amax(1) > 1e-6
    assert torch.equal(changed, w != 1)
    for k in range(6):
        row = slice(k, k + 1)
        alone = net.given(Known(y[row], w[row]))
        found = alone.velocity(x_bar[row], s[row], u[row], x[row], t[row])
        torch.testing.assert_close(v[row], found, rtol=1e-4, atol=1e-5)


def small_world():
    small = {"batch": 16, "code_batch": 8, "clip_batch": 8, "latents": 4, "code_width": 16}
    recipe = replace(RECIPE, **small, pairs=64)
    code = Autoencoder((3, 32, 32), 4, 16)
    return recipe, code, make_pool(code, 50, 0, chunk=20)


def test_the_pool_is_a_function_of_the_seed_and_its_draws_of_the_generator():
    _, code, pool = small_world()
    again = make_pool(code, 50, 0, chunk=20)
    assert torch.equal(pool.code.mean, again.code.mean) and torch.equal(pool.label, again.label)
    x, label = pool.pick(2000, generator())
    assert torch.equal(x, pool.pick(2000, generator())[0]) and set(label.tolist()) <= set(range(4))
    assert not torch.equal(make_pool(code, 50, 1).label, pool.label)


def test_divergence_of_a_code_is_that_of_gaussians():
    mean, sigma = torch.randn(6, 3, generator=generator()), torch.rand(6, 3) + 0.1
    q, p = torch.distributions.Normal(mean, sigma), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(Code(mean, sigma).divergence(), expected)


def test_losses_are_finite_and_reach_every_parameter():
    recipe, code, pool = small_world()
    source = latents.labelled(pool, recipe)
    flow = FlowNet((4,), 16, 1, classes=4)
    net = MetaFlowMapNet((4,), 16, 1, classes=4)
    for objective, model in (
        (latents.code_losses(recipe), code),
        (flow_losses(source, recipe), flow),
        (polish.polish_losses(source, polish.solved_pairs(flow, recipe), flow, recipe), net),
        (clip.clip_losses(recipe), SmallCLIP()),
    ):
        for step in range(4):  # the last layers start at zero and shield those before them
            found = objective(model, model, generator(step))
            sum(found.values()).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * torch.randn(parameter.shape, generator=generator(step))
        assert all(torch.isfinite(value) for value in found.values())
        frozen = (p for p in flow.parameters() if model is net)
        assert all(p.grad is not None for p in model.parameters() if p not in set(frozen))


def test_pairs_are_trajectories_of_the_flow_given_label_and_scale():
    recipe, _, _ = small_world()
    flow = FlowNet((4,), 16, 1, classes=4)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator(3))
    pairs = polish.solved_pairs(flow, replace(recipe, pairs=2100, pair_steps=32))
    assert set(pairs.label.tolist()) == {0, 1, 2, 3, 4}
    assert set(pairs.scale.tolist()) == {1.0, GUIDED_SCALE}
    few = pairs.pick(64, generator())
    with torch.no_grad():
        grid = uniform_grid(2000)
        fine = integrate(euler(flow.given(few.known).velocity), few.noise, grid)
        none = integrate(euler(flow.velocity), few.noise, grid)
    torch.testing.assert_close(few.end, fine, atol=5e-3, rtol=0)
    told = few.label < 4
    assert (few.end - none)[told].abs().amax(-1).median() > 0.02


def test_whole_jumps_are_taught_where_trajectories_end():
    """The loss of a map that jumps straight to the ends vanishes; its context is t = 0."""
    recipe, _, _ = small_world()
    flow = FlowNet((4,), 16, 1, classes=4)
    pairs = polish.solved_pairs(flow, recipe)

    class Right:
        def velocity(self, x_bar, s, u, x, t):
            assert not s.any() and bool((u == 1).all()) and not t.any() and not x.any()
            assert torch.equal(x_bar, pairs.noise)
            return pairs.end - pairs.noise

    prediction, goal = losses.endpoints(Right(), None, pairs.draw())
    torch.testing.assert_close(prediction, goal)
    prediction, goal = losses.endpoints(Right(), None, pairs._replace(end=pairs.end + 1).draw())
    torch.testing.assert_close(prediction + 1, goal)


def test_what_guidance_costs_is_in_the_recipe():
    """Counted: two more forwards for every row whose scale is not 1."""
    recipe, _, pool = small_world()
    asked = []

    class Counting(FlowNet):
        def labelled(self, x, t, known):
            asked.append(len(x))
            return super().labelled(x, t, known)

    flow = Counting((4,), 16, 1, classes=4)
    steps = 400
    for step in range(steps):
        flow_losses(latents.labelled(pool, recipe), recipe)(flow, flow, generator(step))
    counted = (sum(asked) + recipe.batch * steps) / steps  # a backward per row of the first call
    promised = recipe.training()["flow"] / recipe.flow_steps
    assert abs(counted / promised - 1) < 0.05
