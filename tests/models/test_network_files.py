"""Public files of four families: whose they are, their size, and that nothing is lost in them."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.core.params import UserError
from bench.models.checkpoints import bare_names
from bench.models.dit import DiTConfig, DiTFlow, DiTMap
from bench.models.guided_network import GuidedDiTFlow
from bench.models.network_files import config_of, read_network
from tests.models.test_dit_from_flow import sit
from tests.worlds import tiny_dit
from tests.worlds.tiny_dit import TINY, part
from tests.worlds.tiny_imagenet import plain_flow, settings, with_variance, write_flow, write_map

# Fixtures: pytest looks for them in this module.
released, inputs = tiny_dit.released, tiny_dit.inputs


# -- size and outputs ------------------------------------------------------------------------------


def test_a_released_map_says_its_size_and_gives_the_outputs_of_the_release(tmp_path, inputs):
    path = write_map(tmp_path / "mfm.safetensors")
    assert config_of(path, "mfm") == TINY
    found = read_network(path, "mfm")
    v = found.net(*(inputs[k] for k in ("x_bar", "s", "u", "x", "t", "label", "guidance")))
    torch.testing.assert_close(v, part("output")["v"], atol=1e-5, rtol=0)
    assert set(found.report.loaded) == set(found.net.state_dict())


@pytest.mark.parametrize(
    ("published", "family"), [(DiTConfig.xl2(), "mfm"), (DiTConfig.b2(), "mfm")]
)
def test_published_sizes_need_no_settings(tmp_path, monkeypatch, published, family):
    from bench.models import network_files
    from bench.models.dit import DiT

    with torch.device("meta"):
        state = DiT(published).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    monkeypatch.setattr(network_files, "shapes_of", lambda path: (shapes, {}))
    assert config_of(tmp_path / "mfm-xl2.pt", family) == published


def test_torch_files_of_a_published_size_are_read_as_well(tmp_path, inputs, monkeypatch):
    from bench.models import network_files

    torch.save({"ema": part("param"), "steps": 3}, tmp_path / "mfm.pt")
    monkeypatch.setitem(network_files.SIZES, (32, 3), (4, 2))
    assert config_of(tmp_path / "mfm.pt", "mfm") == TINY


# -- the flows of the families ---------------------------------------------------------------------


def points(inputs) -> tuple[Tensor, Tensor, Tensor]:
    return inputs["x_bar"], inputs["u"], inputs["label"]


@pytest.mark.parametrize("family", ["repa", "dmf"])
def test_a_file_whose_time_is_1_at_noise_gives_its_velocity(tmp_path, inputs, family):
    x, t, label = points(inputs)
    net = read_network(write_flow(tmp_path / "a.safetensors", plain_flow()), family).net
    expected = -sit(plain_flow(), x.double(), 1 - t.double(), 1 - t.double(), label)
    torch.testing.assert_close(DiTFlow(net).velocity(x, t, label).double(), expected, atol=2e-5,
                               rtol=0)  # fmt: skip


def test_an_original_sit_gives_the_first_half_of_its_outputs_at_its_own_time(tmp_path, inputs):
    x, t, label = points(inputs)
    path = write_flow(tmp_path / "sit.safetensors", with_variance(plain_flow()))
    found = read_network(path, "sit")
    expected = sit(plain_flow(), x.double(), t.double(), t.double(), label)
    velocity = DiTFlow(found.net.double()).velocity(x.double(), t.double(), label)
    torch.testing.assert_close(velocity, expected, atol=2e-5, rtol=0)
    assert expected.std() > 0.1
    assert "1 - t" in found.report.replaced["t_embedder.mlp.0.weight"]


def test_times_of_noise_and_data_would_be_told_apart(inputs):
    """The test above would not pass if the two directions gave nearly the same."""
    x, t, label = points(inputs)
    x, t = x.double(), t.double()
    forth, back = (sit(plain_flow(), x, time, time, label) for time in (t, 1 - t))
    assert (forth - back).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["sit", "repa", "dmf"])
def test_a_map_of_a_flow_is_the_flow_on_the_diagonal_whatever_the_context(tmp_path, inputs, family):
    """v_{s,s}(x_bar; tau, x) = b_s(x_bar), and the jump at t = 0 leaves along it."""
    state = with_variance(plain_flow()) if family == "sit" else plain_flow()
    path = write_flow(tmp_path / "a.safetensors", state)
    net = read_network(path, family, guidance_scales=(1.0, 2.5)).net.double()
    flow_map, flow = DiTMap(net, 2.5), DiTFlow(net)
    x_bar, s, x, t = (inputs[k].double() for k in ("x_bar", "s", "x", "t"))
    b = flow.velocity(x_bar, s, inputs["label"])
    assert torch.equal(flow_map.velocity(x_bar, s, s, x, t, inputs["label"]), b)
    assert torch.equal(flow_map.jump(x_bar, s, s, inputs["label"]), x_bar)
    step = 1e-6
    slope = (flow_map.jump(x_bar, s, s + step, inputs["label"]) - x_bar) / step
    torch.testing.assert_close(slope, b, atol=1e-4, rtol=1e-4)


# -- guidance --------------------------------------------------------------------------------------


def test_plain_guidance_is_the_line_through_both_velocities(tmp_path, inputs):
    net = read_network(write_flow(tmp_path / "a.safetensors", plain_flow()), "repa").net
    x, t, label = points(inputs)
    told, untold = (DiTFlow(net).velocity(x, t, y) for y in (label, None))
    guided = GuidedDiTFlow(net, 2.5).velocity(x, t, label)
    torch.testing.assert_close(guided, untold + 2.5 * (told - untold), atol=1e-5, rtol=0)
    torch.testing.assert_close(GuidedDiTFlow(net, 2.5).velocity(x, t), untold, atol=1e-5, rtol=0)
    assert (guided - told).abs().max() > 1e-2


def test_plain_guidance_runs_the_network_once_on_two_rows_for_each(tmp_path, inputs):
    net = read_network(write_flow(tmp_path / "a.safetensors", plain_flow()), "repa").net
    rows: list[int] = []
    net.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    x, t, _ = points(inputs)
    GuidedDiTFlow(net, 2.5).velocity(x, t, {"label": 3, "text": "a hen"})
    assert rows == [2 * len(x)]


def test_a_mapping_is_heard_by_its_label(tmp_path, inputs):
    net = read_network(write_map(tmp_path / "mfm.safetensors"), "mfm").net
    x, t, _ = points(inputs)
    flow = DiTFlow(net, 2.5)
    told = {"label": 4, "text": "a photo of a hen."}
    assert torch.equal(flow.velocity(x, t, told), flow.velocity(x, t, 4))
    with pytest.raises(UserError, match="has no 'label': add one"):
        flow.velocity(x, t, {"text": "a hen"})


# -- bad files -------------------------------------------------------------------------------------


def refused(path, family: str) -> str:
    with pytest.raises(UserError) as raised:
        read_network(path, family)
    assert path.name in str(raised.value) and "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_of_another_family_is_refused_with_those_that_fit(tmp_path):
    flow = write_flow(tmp_path / "flow.safetensors", plain_flow())
    both = write_flow(tmp_path / "both.safetensors", with_variance(plain_flow()))
    flow_map = write_map(tmp_path / "map.safetensors")
    assert refused(flow, "mfm").endswith("give family=dmf or repa")
    assert refused(flow, "sit").endswith("give family=dmf or repa")
    assert refused(both, "repa").endswith("give family=sit or dit")
    assert refused(flow_map, "dmf").endswith("give family=mfm")
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert "has no tensor x_embedder" in refused(tmp_path / "other.safetensors", "mfm")


def test_a_size_that_nobody_published_has_to_be_said(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(part("param"), path)
    said = refused(path, "mfm")
    assert "3 blocks of width 32" in said and "num_heads and encoder_depth" in said
    save_file(part("param"), path, {"num_heads": "5", "encoder_depth": "2"})
    assert "contradict each other" in refused(path, "mfm")


def test_scales_that_nobody_named_have_to_be_said(tmp_path):
    state, name = part("param"), "model.dit.guidance_embedder.embedding_table.weight"
    state[name] = torch.zeros(4, 32)
    plain = {k: v for k, v in settings().items() if k != "model_guidance_class_ws"}
    path = tmp_path / "four.safetensors"
    save_file(state, path, plain)
    assert "knows 4 guidance scales" in refused(path, "mfm")
    save_file(state, path, plain | {"model_guidance_class_ws": "[1.5, 2.0, 4.0]"})
    assert config_of(path, "mfm").guidance_scales == (1.0, 1.5, 2.0, 4.0)


def test_a_tensor_of_another_shape_is_named(tmp_path):
    state = bare_names(part("param"))
    state["blocks.2.mlp.fc1.weight"] = torch.zeros(64, 32)
    path = tmp_path / "odd.safetensors"
    save_file(state, path, settings())
    assert "blocks.2.mlp.fc1.weight is (64, 32), not (128, 32)" in refused(path, "mfm")


def test_rates_of_times_are_those_of_the_release():
    from bench.models.dit_layers import time_rates

    expected = [math.exp(-math.log(10_000) * i / 128) for i in range(128)]
    assert time_rates(torch.float64).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_dit_gives_its_noise_at_whole_steps(tmp_path, inputs):
    """The network's own time 1 - s is the step of the diffusion, and the sign is that of DiT."""
    x, _, label = points(inputs)
    path = write_flow(tmp_path / "dit.safetensors", with_variance(plain_flow()))
    net = read_network(path, "dit").net.double()
    steps = torch.tensor([0.0, 1.0, 17.0, 500.0, 999.0], dtype=torch.float64)
    s, void, none = 1 - steps, torch.zeros_like(x).double(), torch.zeros_like(steps)
    noise = net(x.double(), s, s, void, none, label, torch.ones_like(steps))
    expected = sit(plain_flow(), x.double(), steps, steps, label)
    torch.testing.assert_close(noise, expected, atol=1e-9, rtol=0)
