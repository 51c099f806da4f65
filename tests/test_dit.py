"""The diffusion transformer against the authors' release, against a plain SiT, and as a map."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.core.contracts import Flow, MetaFlowMap
from bench.core.params import UserError
from bench.models.checkpoints import (
    LoadReport,
    bare_names,
    initialise_from_flow,
    load_checkpoint,
    load_map,
)
from bench.models.dit import DiT, DiTConfig, DiTFlow, DiTMap, exact_attention
from bench.models.map_posterior import MapPosterior

FIXTURE = Path(__file__).parent / "data" / "mfm_tiny.safetensors"
TINY = DiTConfig(8, patch=2, channels=4, hidden=32, depth=3, heads=4, classes=10, encoder_depth=2)
CONTEXT = ("x_cond_", "t_cond_")
NEW_TIMES = ("s_embedder.", "s_embedder_second.", "t_embedder_second.")


def part(name: str) -> dict[str, Tensor]:
    with safe_open(FIXTURE, "pt") as file:
        names = [key for key in file.keys() if key.startswith(f"{name}/")]  # noqa: SIM118
        return {key.removeprefix(f"{name}/"): file.get_tensor(key) for key in names}


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """The release's tensors, with the prefix that its files carry."""
    return part("param")


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    return part("input")


def without(state: dict[str, Tensor], *beginnings: str) -> dict[str, Tensor]:
    return {k: v for k, v in bare_names(state).items() if not k.startswith(beginnings)}


@pytest.fixture(scope="module")
def plain(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a SiT or DMF file of this size holds."""
    return without(released, *CONTEXT, *NEW_TIMES, "guidance_embedder.")


def ready(state: dict[str, Tensor], config: DiTConfig = TINY) -> DiT:
    net = DiT(config)
    load_map(net, state)
    return net.requires_grad_(False)


def started(state: dict[str, Tensor]) -> tuple[DiT, LoadReport]:
    net = DiT(TINY).double()
    report = initialise_from_flow(net, state)
    return net.requires_grad_(False), report


# -- the release -----------------------------------------------------------------------------------


def test_outputs_are_those_of_the_release(released, inputs):
    net = ready(released)
    order = ("x_bar", "s", "u", "x", "t", "label", "guidance")
    v = net(*(inputs[key] for key in order))
    assert (v - part("output")["v"]).abs().max() <= 1e-5


def test_the_map_hands_every_argument_to_its_place(released, inputs):
    flow_map: MetaFlowMap = DiTMap(ready(released))
    condition = (inputs["label"], inputs["guidance"])
    v = flow_map.velocity(*(inputs[k] for k in ("x_bar", "s", "u", "x", "t")), condition)
    torch.testing.assert_close(v, part("output")["v"], atol=1e-5, rtol=0)


def test_positions_are_those_of_the_release(released):
    torch.testing.assert_close(DiT(TINY).pos_embed, bare_names(released)["pos_embed"])


@pytest.mark.parametrize("prefix", ["model.dit.", "dit.", "model.", "module.", ""])
def test_prefixes_are_accepted_or_absent(released, prefix):
    net = DiT(TINY)
    report = load_map(net, {prefix + k: v for k, v in bare_names(released).items()})
    assert set(report.loaded) == set(net.state_dict())
    for name, value in net.state_dict().items():
        assert torch.equal(value, released[f"model.dit.{name}"])


def test_a_tensor_under_two_prefixes_is_refused(released):
    twice = released | {"pos_embed": torch.zeros(1, 16, 32)}
    with pytest.raises(UserError, match="pos_embed"):
        load_map(DiT(TINY), twice)


def test_every_misfit_is_named_and_nothing_is_loaded(released):
    net = DiT(TINY)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gone, odd = "model.dit.blocks.1.attn.qkv.bias", "model.dit.final_layer.linear.weight"
    state = {key: value for key, value in released.items() if key != gone}
    with pytest.raises(UserError, match=r"missing blocks\.1\.attn\.qkv\.bias"):
        load_map(net, state)
    with pytest.raises(UserError, match=r"unexpected blocks\.3\.extra"):
        load_map(net, released | {"model.dit.blocks.3.extra": torch.zeros(1)})
    with pytest.raises(
        UserError, match=r"final_layer\.linear\.weight is \(32, 32\), not \(16, 32\)"
    ):
        load_map(net, released | {odd: torch.zeros(32, 32)})
    with pytest.raises(UserError, match=r"qkv\.bias; unexpected a; final_layer"):
        load_map(net, state | {"a": torch.zeros(1), odd: torch.zeros(32, 32)})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# -- files -----------------------------------------------------------------------------------------


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_files_in_every_accepted_form(released, tmp_path):
    bare = bare_names(released)
    save_file(released, tmp_path / "a.safetensors")
    torch.save(released, tmp_path / "b.pt")
    other = {key: value + 1 for key, value in released.items()}
    torch.save({"model": other, "ema": released, "steps": 7}, tmp_path / "c.pt")
    torch.save({"state_dict": released, "epoch": 1}, tmp_path / "d.ckpt")
    torch.save({"model": released}, tmp_path / "e.pt")
    for path in tmp_path.iterdir():
        assert same(load_checkpoint(path), bare), path.name


def test_files_that_are_refused(released, tmp_path):
    torch.save({"ema": released, "args": argparse.Namespace(lr=1)}, tmp_path / "code.pt")
    torch.save({"weights": released}, tmp_path / "elsewhere.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "noise.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "noise.safetensors").write_bytes(FIXTURE.read_bytes()[:1000])
    for name, why in {
        "code.pt": "could run code",
        "elsewhere.pt": "no state dict",
        "list.pt": "no state dict",
        "noise.pt": "damaged",
        "noise.safetensors": "cannot read",
        "absent.pt": "cannot read",
        "absent.safetensors": "cannot read",
    }.items():
        with pytest.raises(UserError, match=why) as raised:
            load_checkpoint(tmp_path / name)
        assert name in str(raised.value)


# -- the published sizes ---------------------------------------------------------------------------


def documented(c: DiTConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released file, written out."""
    d, patches = c.hidden, (c.channels, c.patch, c.patch)
    shapes: dict[str, tuple[int, ...]] = {"pos_embed": (1, (c.input_size // c.patch) ** 2, d)}

    def affine(name: str, *weight: int) -> None:
        shapes.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})

    affine("x_embedder.proj", d, *patches)
    affine("x_cond_embedder.proj", d, *patches)
    affine("x_cond_adaLN.1", 2 * d, d)
    for which in ("s_embedder", "t_embedder", "t_cond_embedder"):
        affine(f"{which}.mlp.0", d, 256)
        affine(f"{which}.mlp.2", d, d)
    for which in ("s_embedder_second", "t_embedder_second"):
        affine(f"{which}.mlp.0", d, 256)
        affine(f"{which}.mlp.2", d, d)
    shapes["y_embedder.embedding_table.weight"] = (c.classes + 1, d)
    shapes["guidance_embedder.embedding_table.weight"] = (len(c.guidance_scales), d)
    for i in range(c.depth):
        affine(f"blocks.{i}.attn.qkv", 3 * d, d)
        affine(f"blocks.{i}.attn.proj", d, d)
        affine(f"blocks.{i}.mlp.fc1", 4 * d, d)
        affine(f"blocks.{i}.mlp.fc2", d, 4 * d)
        affine(f"blocks.{i}.adaLN_modulation.1", 6 * d, d)
    affine("final_layer.linear", c.patch**2 * c.channels, d)
    affine("final_layer.adaLN_modulation.1", 2 * d, d)
    return shapes


@pytest.mark.parametrize(
    ("config", "millions"), [(DiTConfig.xl2(), (682, 685)), (DiTConfig.b2(), (133, 136))]
)
def test_published_sizes(config, millions):
    with torch.device("meta"):
        net = DiT(config)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes == documented(config)
    low, high = millions
    assert low < sum(p.numel() for p in net.parameters()) / 1e6 < high


def test_a_network_on_the_meta_device_adopts_the_tensors(released, inputs):
    with torch.device("meta"):
        net = DiT(TINY)
    load_map(net, released)
    with torch.no_grad():
        v = net(*(inputs[k] for k in ("x_bar", "s", "u", "x", "t", "label", "guidance")))
    torch.testing.assert_close(v, part("output")["v"], atol=1e-5, rtol=0)


def test_query_and_key_norms_carry_the_public_names():
    net = DiT(DiTConfig(8, 2, 4, 32, 1, 4, 10, 1, qk_norm=True))
    norms = {k: tuple(v.shape) for k, v in net.state_dict().items() if "norm" in k}
    assert norms == {f"blocks.0.attn.{which}_norm.scale": (8,) for which in "qk"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 3},
        {"heads": 5},
        {"hidden": 30, "heads": 5},
        {"encoder_depth": 29},
        {"guidance_scales": (2.5,)},
        {"guidance_scales": ()},
    ],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"\w+"):
        DiTConfig(**wrong)


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
