"""The diffusion transformer against the authors' release: outputs, files, published sizes."""

from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.core.params import UserError
from bench.core.protocols import MetaFlowMap
from bench.models.checkpoints import bare_names, load_checkpoint, load_map
from bench.models.dit import DiT, DiTConfig, DiTMap
from tests.worlds import tiny_dit
from tests.worlds.tiny_dit import FIXTURE, TINY, part, ready

# Fixtures: pytest looks for them in this module.
released, inputs = tiny_dit.released, tiny_dit.inputs


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
