"""Files of weights with every damage that was met: each is refused, or the choice is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.core.params import UserError
from bench.models import external, network_files, weights
from bench.models.averages import is_average
from bench.models.checkpoints import bare_names
from bench.models.dit import DiT
from bench.models.meta_flow_map import FlowNet
from bench.models.network_files import NetworkFile, read_network
from tests.worlds.tiny_dit import part
from tests.worlds.tiny_imagenet import plain_flow, settings, with_variance, write_flow

State = dict[str, Tensor]
BIAS, WEIGHT = "blocks.1.attn.qkv.bias", "blocks.2.mlp.fc1.weight"


def released() -> State:
    return bare_names(part("param"))


@pytest.fixture(autouse=True)
def known_size(monkeypatch):
    """Torch files have no metadata: the tiny network counts as published."""
    monkeypatch.setitem(network_files.SIZES, (32, 3), (4, 2))
    monkeypatch.setattr(network_files, "RELEASED_SCALES", (1.0, 2.5))


def changed(name: str, how: Callable[[Tensor], Tensor]) -> State:
    state = released()
    return state | {name: how(state[name])}


def with_one(value: float) -> Callable[[Tensor], Tensor]:
    def put(tensor: Tensor) -> Tensor:
        out = tensor.clone()
        out.view(-1)[3] = value
        return out

    return put


def renamed(old: str, new: str) -> State:
    state = released()
    return {new if name == old else name: value for name, value in state.items()}


def without(name: str) -> State:
    return {key: value for key, value in released().items() if key != name}


REFUSED: dict[str, tuple[Callable[[], State], str]] = {
    "missing": (lambda: without(BIAS), f"not a meta flow map of this size: missing {BIAS}."),
    "extra": (lambda: released() | {"blocks.0.lora.A": torch.zeros(2)},
              "unexpected blocks.0.lora.A."),
    "mis-shaped": (lambda: changed(WEIGHT, lambda w: w[:64].clone()),
                   f"{WEIGHT} is (64, 32), not (128, 32)."),
    "flattened": (lambda: changed("x_embedder.proj.weight", lambda w: w.flatten(1)),
                  "its x_embedder.proj.weight is (32, 16), which has 2 dimensions, not 4"),
    "renamed": (lambda: renamed(BIAS, "blocks.1.attention.qkv.bias"),
                f"missing {BIAS}; unexpected blocks.1.attention.qkv.bias."),
    "renamed where the size is read": (lambda: renamed("pos_embed", "positions"),
                                       "has no tensor pos_embed"),
    "NaN": (lambda: changed(WEIGHT, with_one(float("nan"))),
            f"{WEIGHT} holds NaN (1 of 4096 numbers are not finite)"),
    "infinity": (lambda: changed(BIAS, with_one(float("-inf"))),
                 f"{BIAS} holds infinity (1 of 96 numbers are not finite)"),
    "integer": (lambda: changed(WEIGHT, lambda w: (100 * w).to(torch.int8)),
                f"{WEIGHT} holds whole numbers, not real numbers"),
    "bool": (lambda: changed(WEIGHT, lambda w: w > 0),
             f"{WEIGHT} holds true and false, not real numbers"),
    "complex": (lambda: changed(WEIGHT, lambda w: w.to(torch.complex64)),
                f"{WEIGHT} holds complex numbers, not real numbers"),
    "zeroed table": (lambda: changed("pos_embed", torch.zeros_like), "pos_embed is zero: it"),
    "changed table": (lambda: changed("pos_embed", lambda p: p.roll(1, 1)),
                      "pos_embed is changed: it differs by"),
}  # fmt: skip


def said(path: Path, family: str = "mfm") -> str:
    with pytest.raises(UserError) as raised:
        read_network(path, family)
    assert path.name in str(raised.value) and "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("damage", REFUSED)
def test_damage_is_refused_by_name(tmp_path, damage, ending):
    make, why = REFUSED[damage]
    path = tmp_path / f"map.{ending}"
    if ending == "pt":
        torch.save({"ema": make()}, path)
    else:
        save_file({k: v.contiguous() for k, v in make().items()}, path, settings())
    assert why in said(path)


@pytest.mark.parametrize("family", ["repa", "dmf", "sit"])
@pytest.mark.parametrize(
    ("name", "how", "why"),
    [
        ("final_layer.linear.weight", lambda w: w > 0, "holds true and false"),
        ("t_embedder.mlp.0.weight", lambda w: w.to(torch.complex64), "holds complex numbers"),
        ("t_embedder.mlp.0.weight", lambda w: w[:, :9].clone(), "ask for (32, 256)"),
        ("final_layer.linear.bias", lambda w: w[:3].clone(), "final_layer.linear.bias is (3,)"),
        ("pos_embed", torch.zeros_like, "pos_embed is zero"),
    ],
)
def test_a_flow_whose_tensors_are_turned_is_looked_at_before(tmp_path, family, name, how, why):
    state = with_variance(plain_flow()) if family == "sit" else plain_flow()
    path = write_flow(tmp_path / "flow.safetensors", state | {name: how(state[name])})
    assert why in said(path, family)


# -- raw weights beside an average -----------------------------------------------------------------


def raw() -> State:
    return {name: value + 1 for name, value in released().items()}


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def untabled(state: State) -> State:
    """As averages of parameters alone: the table of positions is none."""
    return {name: value for name, value in state.items() if name != "pos_embed"}


def raw_with_table() -> State:
    return raw() | {"pos_embed": released()["pos_embed"]}


COUNT = torch.tensor(7)
AVERAGED: dict[str, tuple[Callable[[], object], str]] = {
    "ema": (lambda: {"model": raw(), "ema": released()}, "'ema'"),
    "model_ema": (lambda: {"state_dict": raw(), "model_ema": released()}, "'model_ema'"),
    "ema_state_dict": (lambda: {"model": raw(), "ema_state_dict": released()}, "'ema_state_dict'"),
    "params_ema": (lambda: {"params": raw(), "params_ema": released()}, "'params_ema'"),
    "averaged model of torch": (
        lambda: {"model": raw(), "swa": {"n_averaged": COUNT} | under("module.", released())},
        "'swa'",
    ),
    "our own trainer's": (
        lambda: {"step": 3, "model": raw(), "optimizer": {"state": {0: {"exp_avg": COUNT}}},
                 "average": {"n_averaged": COUNT} | under("module.", released())},
        "'average'",
    ),
    "inside its own container": (
        lambda: {"model": raw_with_table(),
                 "ema": {"decay": 0.999, "shadow": untabled(released())}},
        "'ema'",
    ),
    "a callback": (
        lambda: {"state_dict": raw(), "callbacks": {"EMACallback": {"state_dict": released()}}},
        "'callbacks/EMACallback'",
    ),
    "among the names": (
        lambda: {"state_dict": under("model.dit.", raw()) | under("ema_model.dit.", released())},
        "'ema_model.'",
    ),
    "among the names, without dots": (
        lambda: {"state_dict": under("model.dit.", raw_with_table())
                 | {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": COUNT}
                 | {f"model_ema.dit{name.replace('.', '')}": value
                    for name, value in untabled(released()).items()}},
        "'model_ema.'",
    ),
}  # fmt: skip


def same(found: NetworkFile) -> bool:
    own = found.net.state_dict()
    return all(torch.equal(own[name], value.float()) for name, value in released().items())


@pytest.mark.parametrize("where", AVERAGED)
def test_an_average_is_taken_under_whatever_name_and_said(tmp_path, where):
    make, name = AVERAGED[where]
    torch.save(make(), tmp_path / "training.ckpt")
    found = read_network(tmp_path / "training.ckpt", "mfm")
    assert same(found)
    assert f"the moving average under {name} was taken, not the raw weights" in str(found.report)


def test_an_average_among_the_names_of_a_safetensors_file(tmp_path):
    state = under("model.", raw()) | under("ema.", released())
    save_file(state, tmp_path / "both.safetensors", settings())
    assert same(read_network(tmp_path / "both.safetensors", "mfm"))


def test_raw_weights_without_an_average_are_said_to_be_raw(tmp_path):
    torch.save({"model": released(), "opt": {}}, tmp_path / "raw.pt")
    found = read_network(tmp_path / "raw.pt", "mfm")
    assert same(found)
    assert "the weights under 'model' were taken; the file has no moving average" in str(
        found.report
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda: {"model": raw(), "ema_0999": released(), "ema_09999": raw()},
         "it holds the averages ema_0999, ema_09999, and nothing says which is meant"),
        (lambda: {"model": raw(), "ema": {"decay": 0.9, "shadow_params": [*released().values()]}},
         "a moving average stands under 'shadow_params' without the names of its tensors"),
        (lambda: {"state_dict": raw(), "optimizer_states": [{"ema": tuple(released().values())}]},
         "a moving average stands under 'optimizer_states/0/ema' without the names"),
        (lambda: {"model": raw(), "ema": without(BIAS)},
         f"the average under 'ema' has no tensor {BIAS}, which the raw weights under 'model' have"),
    ],
)  # fmt: skip
def test_an_average_that_cannot_be_told_is_refused(tmp_path, content, why):
    torch.save(content(), tmp_path / "training.pt")
    assert why in said(tmp_path / "training.pt")


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "scheme", "schedule", "model", "gamma"])
def test_other_words_are_no_averages(name):
    assert not is_average(name)


# -- wrappers, endings, precision ------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.model.dit.{name}",
        lambda name: f"model._orig_mod.dit.module.{name}",
        lambda name: name.replace("blocks.", "blocks.module._orig_mod."),
        lambda name: name.replace(".attn.", "._checkpoint_wrapped_module.attn._orig_mod."),
    ],
)
def test_wrappers_are_taken_off_anywhere(tmp_path, where):
    torch.save({where(name): value for name, value in released().items()}, tmp_path / "a.pt")
    assert same(read_network(tmp_path / "a.pt", "mfm"))


@pytest.mark.parametrize("ending", ["pt", "bin", "ckpt", "pth", "sft"])
def test_a_safetensors_file_is_read_under_another_ending(tmp_path, ending):
    save_file(released(), tmp_path / f"map.{ending}", settings())
    assert same(read_network(tmp_path / f"map.{ending}", "mfm"))


def test_what_is_no_file_of_tensors_says_what_it_is(tmp_path):
    files = {
        "page.pt": (b"<!DOCTYPE html>\n<html>404", 'it is text, which begins with "<!DOCTYPE'),
        "notes.pt": ("Gewichte, später".encode(), 'it is text, which begins with "Gewichte'),
        "pointer.ckpt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs"),
        "empty.pt": (b"", "it is empty"),
        "noise.pt": (bytes(range(200, 256)) * 9, "neither safetensors nor a file of torch"),
    }
    for name, (content, why) in files.items():
        (tmp_path / name).write_bytes(content)
        assert why in said(tmp_path / name), name


@pytest.mark.parametrize(
    ("kind", "word"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")]
)
def test_a_lower_precision_is_named(tmp_path, kind, word):
    state = {name: value.to(kind) for name, value in released().items()}
    torch.save(state, tmp_path / "half.pt")
    report = read_network(tmp_path / "half.pt", "mfm").report
    told = f"{len(state)} of {len(state)} tensors are {word} in the file and float32 in the network"
    assert told in str(report)
    torch.save(released(), tmp_path / "full.pt")
    assert "float32 in the network" not in str(read_network(tmp_path / "full.pt", "mfm").report)


# -- the release's trainer -------------------------------------------------------------------------


def trainers(scale: float, bias: float = 0.0) -> State:
    shape = 1, 4, 1, 1
    own = {"latents_scale": torch.full(shape, scale), "latents_bias": torch.full(shape, bias)}
    return under("model.dit.", released()) | own


@pytest.mark.parametrize("content", [
    lambda: trainers(0.18215),
    lambda: {"state_dict": under("module.", trainers(0.18215)), "epoch": 3},
    lambda: {"ema": released(), "model": raw(), "latents_scale": torch.full((1, 4, 1, 1), 0.18215)},
])  # fmt: skip
def test_the_trainers_file_is_read_with_its_latent_statistics(tmp_path, content):
    torch.save(content(), tmp_path / "last.ckpt")
    found = read_network(tmp_path / "last.ckpt", "mfm")
    assert same(found) and "in the file are those of our latents" in str(found.report)


def test_statistics_of_other_latents_are_refused(tmp_path):
    torch.save(trainers(0.13025), tmp_path / "xl.ckpt")
    assert "its latents_scale is 0.13025, 0.13025" in said(tmp_path / "xl.ckpt")
    torch.save(trainers(0.18215, 0.5), tmp_path / "moved.ckpt")
    assert "its latents_bias is 0.5" in said(tmp_path / "moved.ckpt")


# -- the other loaders -----------------------------------------------------------------------------

UNSOUND: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": with_one(float("nan")),
    "infinity": with_one(float("inf")),
    "whole numbers": lambda w: w.to(torch.int64),
    "true and false": lambda w: w > 0,
    "complex numbers": lambda w: w.to(torch.complex64),
}


@pytest.mark.parametrize("damage", UNSOUND)
def test_trained_and_published_weights_are_held_to_the_same(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("TILTBENCH_WEIGHTS", str(tmp_path))
    net = FlowNet((2,), 8, 1)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    state["net.enter.weight"] = UNSOUND[damage](state["net.enter.weight"])
    save_file({f"flow.{k}": v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=rf"net\.enter\.weight holds {damage}"):
        weights.load_into(FlowNet((2,), 8, 1), "w", "flow")
    torch.save(state, tmp_path / "reward.pt")
    with pytest.raises(UserError, match=rf"net\.enter\.weight holds {damage}"):
        read = external.read_state(tmp_path / "reward.pt")
        external.load_strictly(FlowNet((2,), 8, 1), read, tmp_path / "reward.pt")


def test_a_folder_of_weights_that_is_not_there_is_refused(tmp_path, monkeypatch):
    """Its networks would otherwise be the shipped ones, silently."""
    monkeypatch.setenv("TILTBENCH_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"TILTBENCH_WEIGHTS names .*gone, which is no folder"):
        weights.find("digits")


def test_published_weights_are_those_of_the_average_and_without_wrappers(tmp_path):
    net = DiT(read_network(write_flow(tmp_path / "f.safetensors", plain_flow()), "repa").net.config)
    own = dict(net.state_dict())
    torch.save({"state_dict": {k: v + 1 for k, v in own.items()},
                "model_ema": under("module._orig_mod.", own)}, tmp_path / "reward.pt")  # fmt: skip
    found = external.read_state(tmp_path / "reward.pt")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)
    save_file(own, tmp_path / "other.bin")
    assert external.read_state(tmp_path / "other.bin").keys() == own.keys()
    (tmp_path / "text.pt").write_text("404: Not Found")
    with pytest.raises(UserError, match='text, which begins with "404: Not Found"'):
        external.read_state(tmp_path / "text.pt")
    assert load_file(tmp_path / "other.bin").keys() == own.keys()
