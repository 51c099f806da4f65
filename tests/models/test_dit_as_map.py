"""The diffusion transformer as a flow and as a map: derivatives, conditions, posterior draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.core.map_posterior import MapPosterior
from bench.core.params import UserError
from bench.models.checkpoints import bare_names
from bench.models.dit import DiT, DiTConfig, DiTFlow, DiTMap, exact_attention
from tests.worlds import tiny_dit
from tests.worlds.tiny_dit import TINY, ready

# Fixtures: pytest looks for them in this module.
released, inputs = tiny_dit.released, tiny_dit.inputs


# -- derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("qk_norm", [False, True])
def test_exact_attention_is_the_same_function(released, inputs, qk_norm):
    torch.manual_seed(0)
    config = DiTConfig(8, 2, 4, 32, 3, 4, 10, 2, qk_norm=qk_norm)
    net = DiT(config).double() if qk_norm else ready(released).double()
    arguments = [inputs[k].double() for k in ("x_bar", "s", "u", "x", "t")]
    fused = DiTMap(net).velocity(*arguments, 2)
    with exact_attention():
        torch.testing.assert_close(DiTMap(net).velocity(*arguments, 2), fused)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_jvp_is_the_finite_difference(released, inputs, qk_norm):
    """The tangent (1, 0, w) on (s, u, x_bar) of the consistency losses."""
    torch.manual_seed(0)
    extra = {f"blocks.{i}.attn.{w}_norm.scale": torch.rand(8) + 0.5 for i in range(3) for w in "qk"}
    config = DiTConfig(8, 2, 4, 32, 3, 4, 10, 2, qk_norm=qk_norm)
    net = ready(bare_names(released) | (extra if qk_norm else {}), config).double()
    x_bar, s, u, x, t = (inputs[k].double() for k in ("x_bar", "s", "u", "x", "t"))

    def v(s: Tensor, x_bar: Tensor) -> Tensor:
        return DiTMap(net).velocity(x_bar, s, u, x, t, (1, 2.5))

    ones, w, h = torch.ones_like(s), torch.randn_like(x_bar), 1e-5
    with exact_attention():
        _, tangent = torch.func.jvp(v, (s, x_bar), (ones, w))
    difference = (v(s + h, x_bar + h * w) - v(s - h, x_bar - h * w)) / (2 * h)
    torch.testing.assert_close(tangent, difference, atol=1e-7, rtol=1e-6)


def test_exact_attention_ends_with_its_block(monkeypatch):
    from bench.models import dit_layers

    calls = []
    monkeypatch.setattr(
        dit_layers.functional, "scaled_dot_product_attention", lambda *qkv: calls.append(qkv)
    )
    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(KeyError), exact_attention():
        with exact_attention():
            dit_layers.attend(q, q, q)
        dit_layers.attend(q, q, q)
        raise KeyError
    assert not calls
    dit_layers.attend(q, q, q)
    assert len(calls) == 1


# -- roles -----------------------------------------------------------------------------------------


def test_flow_and_jump_are_slices_of_the_map(released, inputs):
    net = ready(released)
    x, s, u = inputs["x_bar"], inputs["s"], inputs["u"]
    void, zero = torch.zeros_like(x), torch.zeros_like(s)
    diagonal = DiTMap(net, 2.5).velocity(x, u, u, void, zero, 4)
    assert torch.equal(DiTFlow(net, 2.5).velocity(x, u, 4), diagonal)
    moved = x + (u - s)[:, None, None, None] * DiTMap(net).velocity(x, s, u, void, zero, 4)
    assert torch.equal(DiTMap(net).jump(x, s, u, 4), moved)
    assert DiTFlow(net).event_shape == (4, 8, 8)


def test_conditions_in_all_their_forms(released, inputs):
    net = ready(released)
    x, t = inputs["x"], inputs["t"]
    flow, guided = DiTFlow(net), DiTFlow(net, guidance=2.5)
    label = torch.full((5,), 4)
    assert torch.equal(flow.velocity(x, t, 4), flow.velocity(x, t, label))
    assert torch.equal(guided.velocity(x, t, 4), flow.velocity(x, t, (label, 2.5)))
    assert torch.equal(guided.velocity(x, t), flow.velocity(x, t, (10, 1.0)))
    assert not torch.equal(guided.velocity(x, t, 4), flow.velocity(x, t, 4))
    mixed = flow.velocity(x, t, (torch.tensor([4, 3, 3, 3, 3]), torch.tensor([2.5, 1, 1, 1, 1])))
    torch.testing.assert_close(mixed[:1], guided.velocity(x[:1], t[:1], 4))


def test_the_nearest_trained_scale_is_used_for_rows_of_scales(released, inputs):
    flow, scales = DiTFlow(ready(released)), torch.tensor([0.0, 1.7, 1.8, 9.0, 2.5])
    nearest = torch.tensor([1.0, 1.0, 2.5, 2.5, 2.5])
    x, t, label = inputs["x"], inputs["t"], inputs["label"]
    assert torch.equal(flow.velocity(x, t, (label, scales)), flow.velocity(x, t, (label, nearest)))


@pytest.mark.parametrize("condition", [11, -1, "cat", (3, 1.7)])
def test_conditions_that_do_not_exist_are_refused(released, inputs, condition):
    with pytest.raises(UserError, match=r"no class|not one that was trained"):
        DiTFlow(ready(released)).velocity(inputs["x"], inputs["t"], condition)


def test_an_untrained_default_scale_is_refused():
    with pytest.raises(UserError, match=r"guidance 4 is not one that was trained: 1, 2\.5"):
        DiTMap(DiT(TINY), guidance=4)


def test_posterior_draws_are_differentiable_in_the_state(released, inputs):
    x = inputs["x"].clone().requires_grad_()

    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))

    draws = MapPosterior(DiTMap(ready(released))).draw(x, inputs["t"], 3, noise, 4)
    assert draws.shape == (3, 5, 4, 8, 8)
    (gradient,) = torch.autograd.grad(draws.sum(), x)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
