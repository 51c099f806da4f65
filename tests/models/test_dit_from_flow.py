"""A diffusion transformer that is made of a flow, against a plain SiT written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.core.params import UserError
from bench.core.protocols import Flow
from bench.models.checkpoints import LoadReport, bare_names, initialise_from_flow
from bench.models.dit import DiT, DiTFlow, DiTMap
from tests.worlds import tiny_dit
from tests.worlds.tiny_dit import TINY, ready

# Fixtures: pytest looks for them in this module.
released, inputs = tiny_dit.released, tiny_dit.inputs

CONTEXT = ("x_cond_", "t_cond_")
NEW_TIMES = ("s_embedder.", "s_embedder_second.", "t_embedder_second.")


def without(state: dict[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    return {k: v for k, v in bare_names(state).items() if not k.startswith(beginnings)}


@pytest.fixture(scope="module")
def plain(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a SiT or DMF file of this size holds."""
    return without(released, *CONTEXT, *NEW_TIMES, "guidance_embedder.")


def started(state: dict[str, Tensor]) -> tuple[DiT, LoadReport]:
    net = DiT(TINY).double()
    report = initialise_from_flow(net, state)
    return net.requires_grad_(False), report


# -- a map from a flow -----------------------------------------------------------------------------


def embedded(w: dict[str, Tensor], time: Tensor) -> Tensor:
    angle = time[:, None] * 10_000 ** (-torch.arange(128, dtype=torch.float64) / 128)
    features = torch.cat([angle.cos(), angle.sin()], -1)
    inner = F.silu(features @ w["t_embedder.mlp.0.weight"].T + w["t_embedder.mlp.0.bias"])
    return inner @ w["t_embedder.mlp.2.weight"].T + w["t_embedder.mlp.2.bias"]


def sit(w: dict[str, Tensor], x: Tensor, leave: Tensor, reach: Tensor, label: Tensor) -> Tensor:
    """A SiT written out in float64, time 1 = noise; with leave != reach, a DMF's two conditions."""
    w = {name: value.double() for name, value in w.items()}

    def affine(h: Tensor, name: str) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(h: Tensor) -> Tensor:
        return (h - h.mean(-1, keepdim=True)) / (
            h.var(-1, correction=0, keepdim=True) + 1e-6
        ).sqrt()

    def attention(h: Tensor, name: str) -> Tensor:
        q, k, v = (p.unflatten(-1, (4, 8)) for p in affine(h, f"{name}.qkv").chunk(3, -1))
        weight = (torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(8)).softmax(-1)
        return affine(torch.einsum("bhij,bjhd->bihd", weight, v).flatten(2), f"{name}.proj")

    y = w["y_embedder.embedding_table.weight"][label]
    conditions = [embedded(w, leave) + y] * 2 + [embedded(w, reach) + y]
    h = F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=2)
    h = h.flatten(2).transpose(1, 2) + w["pos_embed"]
    for i, c in enumerate(conditions):
        m = affine(F.silu(c), f"blocks.{i}.adaLN_modulation.1")[:, None].chunk(6, -1)
        h = h + m[2] * attention(norm(h) * (1 + m[1]) + m[0], f"blocks.{i}.attn")
        inner = affine(norm(h) * (1 + m[4]) + m[3], f"blocks.{i}.mlp.fc1")
        h = h + m[5] * affine(F.gelu(inner, approximate="tanh"), f"blocks.{i}.mlp.fc2")
    shift, scale = affine(F.silu(conditions[-1]), "final_layer.adaLN_modulation.1").chunk(2, -1)
    h = affine(norm(h) * (1 + scale[:, None]) + shift[:, None], "final_layer.linear")
    image = torch.zeros_like(x)
    for token in range(16):
        row, column = divmod(token, 4)
        patch = h[:, token].reshape(-1, 2, 2, 4).permute(0, 3, 1, 2)
        image[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch
    return image


def test_a_map_starts_as_the_flow_that_it_was_made_of(plain, inputs):
    net, _ = started(plain)
    x, t, label = inputs["x_bar"].double(), inputs["u"].double(), inputs["label"]
    flow: Flow = DiTFlow(net)
    expected = -sit(plain, x, 1 - t, 1 - t, label)
    torch.testing.assert_close(flow.velocity(x, t, label), expected, atol=1e-12, rtol=1e-12)
    assert expected.std() > 0.1


def test_a_map_of_a_dmf_keeps_its_two_times(plain, inputs):
    net, _ = started(plain)
    x, label = inputs["x_bar"].double(), inputs["label"]
    s, u = inputs["s"].double(), inputs["u"].double()
    expected = x - (u - s)[:, None, None, None] * sit(plain, x, 1 - s, 1 - u, label)
    torch.testing.assert_close(DiTMap(net).jump(x, s, u, label), expected, atol=1e-12, rtol=1e-12)


def test_at_the_start_context_and_guidance_say_nothing(plain, inputs):
    net, _ = started(plain)
    x_bar, s, u, x, t = (inputs[k].double() for k in ("x_bar", "s", "u", "x", "t"))
    v = DiTMap(net).velocity(x_bar, s, u, x, t, (3, 1.0))
    for other, guidance in ((10 * x, 1.0), (x, 2.5)):
        assert torch.equal(DiTMap(net).velocity(x_bar, s, u, other, 1 - t, (3, guidance)), v)


def test_the_report_lists_what_was_not_in_the_file(plain, released):
    net, report = started(plain)
    assert set(report.initialised) == bare_names(released).keys() - plain.keys()
    assert set(report.replaced) == {"t_embedder.mlp.2.weight", "t_embedder.mlp.2.bias"}
    assert set(report.loaded) == plain.keys() - report.replaced.keys()
    assert report.initialised["s_embedder.mlp.2.bias"] == "copy of t_embedder.mlp.2.bias"
    assert report.initialised["guidance_embedder.embedding_table.weight"] == "zero"
    assert all(name in str(report) for name in report.initialised)
    assert net.x_cond_adaLN[1].bias.tolist() == [0.0] * 32 + [-1.0] * 32
    assert net.x_cond_embedder.proj.weight.abs().sum() > 0, "the context could never be learned"


def test_copies_share_no_memory(plain):
    with torch.device("meta"):
        net = DiT(TINY)
    initialise_from_flow(net, plain)
    places = [value.untyped_storage().data_ptr() for value in net.state_dict().values()]
    assert len(set(places)) == len(places)


def test_a_file_with_all_time_embedders_keeps_them(released, inputs):
    """Only the context is new: the map is that of the release with its context switched off."""
    state = bare_names(released)
    net, report = started(without(state, *CONTEXT))
    assert all(name.startswith(CONTEXT) for name in report.initialised)
    assert not report.replaced
    off = {
        k: torch.zeros_like(v) for k, v in state.items() if k.startswith("t_cond_embedder.mlp.2")
    }
    off["x_cond_adaLN.1.weight"] = torch.zeros(64, 32)
    off["x_cond_adaLN.1.bias"] = torch.cat([torch.zeros(32), -torch.ones(32)])
    arguments = [inputs[k].double() for k in ("x_bar", "s", "u", "x", "t")]
    condition = (inputs["label"], inputs["guidance"])
    expected = DiTMap(ready(state | off).double()).velocity(*arguments, condition)
    torch.testing.assert_close(DiTMap(net).velocity(*arguments, condition), expected)


def test_a_flow_that_does_not_fit_is_refused_by_name(plain, released):
    for name in ("t_embedder.mlp.2.bias", "blocks.2.mlp.fc1.weight", "pos_embed"):
        with pytest.raises(UserError, match=f"missing {name}"):
            started({key: value for key, value in plain.items() if key != name})
        with pytest.raises(UserError, match=f"{name} is"):
            started(plain | {name: torch.zeros(3)})
    with pytest.raises(UserError, match=r"unexpected projectors\.0\.weight"):
        started(plain | {"projectors.0.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"missing s_embedder_second\.mlp\.0\.bias"):
        started(without(released, *CONTEXT, "s_embedder_second."))
    with pytest.raises(UserError, match=r"unexpected x_cond_adaLN\.1\.bias"):
        started(bare_names(released))


def test_what_is_dropped_is_asked_for_and_reported(plain):
    state = plain | {
        "logvar_linear.weight": torch.zeros(1, 256),
        "logvar_linear.bias": torch.zeros(1),
    }
    with pytest.raises(UserError, match=r"unexpected logvar_linear\.bias"):
        started(state)
    report = initialise_from_flow(DiT(TINY), state, drop=("logvar_linear.",))
    assert report.dropped == ("logvar_linear.bias", "logvar_linear.weight")
    assert "dropped: logvar_linear.bias" in str(report)
