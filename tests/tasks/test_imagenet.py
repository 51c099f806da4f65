"""The ImageNet task on small files in the public formats: what is heard, read, decoded, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.conformance.check import conform
from bench.core.cells import Cell
from bench.core.conditions import sentence_of, spelled
from bench.core.params import UserError
from bench.models import latents
from bench.models.dit import DiTFlow
from bench.models.latent_shards import LatentShards
from bench.models.network_files import read_network
from bench.plan.binding import bind, lacking
from bench.plan.expand import expand
from bench.plan.prediction import sample_work
from bench.plan.suite import build_suite
from bench.reading.encoding import encode_folder
from bench.record.store import Store
from bench.record.tables import rows_agree
from bench.runner.cell import Job
from bench.runner.executors.inline import Inline
from bench.runner.measuring import unpack_samples
from bench.runner.run import run_suite
from bench.tasks.imagenet import ImageNet
from tests.worlds.picture_files import save
from tests.worlds.seeded import generator
from tests.worlds.silent import Silent
from tests.worlds.tiny_imagenet import (
    FACTOR,
    LATENT,
    plain_flow,
    settings,
    with_variance,
    write_autoencoder,
    write_flow,
    write_map,
)

LABEL = 3
N = 2


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet")
    write_map(folder / "mfm.safetensors")
    write_flow(folder / "repa.safetensors", plain_flow())
    write_flow(folder / "sit.safetensors", with_variance(plain_flow()))
    write_autoencoder(folder / "vae")
    random = np.random.default_rng(1)
    for k in range(5):
        save(folder / "set" / f"n{k}" / "0.png", random.integers(0, 256, (40, 40, 3), "u1"))
    encode_folder(folder / "set", folder / "vae", folder / "latents", side=FACTOR * LATENT)
    return folder


def paths(files: Path, family: str = "mfm") -> dict[str, str]:
    network = str(files / f"{family}.safetensors")
    return {"checkpoint": network, "autoencoder": str(files / "vae"), "family": family}


def named(files: Path, family: str = "mfm", **more: object) -> str:
    values = paths(files, family) | {"classes": LABEL} | more
    return "imagenet256:" + ",".join(f"{key}={value}" for key, value in values.items())


def task_of(files: Path, family: str = "mfm", **more: object) -> ImageNet:
    return ImageNet.create(**paths(files, family), **{"classes": (LABEL,), **more})


# -- conditions ------------------------------------------------------------------------------------


def test_a_condition_is_a_label_for_the_network_and_a_sentence_for_rewards(files):
    task = task_of(files)
    (told,) = task.conditions("report")
    assert told == {
        "label": 3,
        "text": "A high-quality, high-resolution photograph of a tiger shark.",
    }
    assert task.sentence(told) == told["text"]
    x, t = torch.randn(N, *task.event_shape, generator=generator()), torch.full((N,), 0.4)
    net = read_network(files / "mfm.safetensors", "mfm").net
    expected = DiTFlow(net, 2.5).velocity(x, t, 3)
    assert torch.equal(task.flow.velocity(x, t, told), expected)
    assert not torch.equal(task.flow.velocity(x, t, {**told, "label": 4}), expected)


def test_the_papers_sentence():
    (told,) = ImageNet.create().conditions("report")
    text = "A high-quality, high-resolution photograph of a tabby cat."
    assert told == {"label": 281, "text": text}


def test_classes_to_tune_on_are_none_of_the_report(files):
    task = task_of(files, classes=(207, 1))
    labels = [{c["label"] for c in task.conditions(split)} for split in ("report", "tune")]
    assert labels[0] == {207, 1} and labels[1] and not labels[0] & labels[1]


def test_plain_conditions_mean_to_all_what_they_meant():
    for condition in (None, 3, "a red circle", 0.5):
        assert sentence_of(condition) == condition
        assert spelled(condition) == ("" if condition is None else str(condition))
    assert spelled({"text": "é", "label": 1}) == '{"label": 1, "text": "é"}'
    with pytest.raises(UserError, match="has no 'text': add one"):
        sentence_of({"label": 3})


def test_a_mapping_is_part_of_the_cells_identity():
    def cell(condition: object) -> str:
        return Cell("t", {}, "r", {}, 1.0, condition, "m", {}, 2, 0, 1, {}, {}).id

    one = {"label": 3, "text": "a"}
    assert cell(one) == cell({"text": "a", "label": 3})
    assert len({cell(one), cell({**one, "label": 4}), cell({**one, "text": "b"}), cell(3)}) == 4


# -- latents ---------------------------------------------------------------------------------------


def test_pictures_are_decoded_as_diffusers_does_and_not_clamped(files):
    from diffusers import AutoencoderKL

    task, net = task_of(files), AutoencoderKL.from_pretrained(files / "vae").eval()
    z = 3 * torch.randn(N, *task.event_shape, generator=generator(1))
    z.requires_grad_()
    x = task.decode(z)
    with torch.no_grad():
        torch.testing.assert_close(x.detach(), net.decode(z / 0.18215).sample)
    assert tuple(x.shape[1:]) == task.data_shape == (3, FACTOR * LATENT, FACTOR * LATENT)
    wide = 100 * z
    (gradient,) = torch.autograd.grad(task.decode(wide).sum(), z)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    shown = task.render(torch.tensor([-3.0, -1.0, 0.0, 3.0]).reshape(1, 1, 2, 2))
    assert shown.flatten().tolist() == [0, 0, 128, 255]


def test_codes_are_those_of_diffusers_times_the_factor(files):
    from diffusers import AutoencoderKL

    net = AutoencoderKL.from_pretrained(files / "vae").eval()
    x = torch.rand(N, 3, 32, 32, generator=generator(2)) * 2 - 1
    code = latents.read_autoencoder(files / "vae").encode(x)
    with torch.no_grad():
        found = net.encode(x).latent_dist
    torch.testing.assert_close(code.mean, 0.18215 * found.mean)
    torch.testing.assert_close(code.sigma, 0.18215 * found.std)
    torch.testing.assert_close(task_of(files).encode(x), code.mean)


# -- guidance and needs ----------------------------------------------------------------------------


def test_a_map_is_offered_where_one_was_trained(files):
    maps = {
        family: bind(named(files, family, guidance=1), "jpeg-compressibility").spec.has_flow_map
        for family in ("mfm", "repa", "sit")
    }
    assert maps == {"mfm": True, "repa": False, "sit": False}
    plain = bind(named(files, cfg="plain"), "jpeg-compressibility")
    assert plain.spec.guided and not plain.spec.has_flow_map
    assert not bind(named(files), "jpeg-compressibility").spec.guided
    from methods.steering.mfm import MFMGradientFree

    assert "flow map" in (lacking(MFMGradientFree.create(), plain.spec, plain.task) or "")


def test_a_scale_that_was_not_trained_is_refused_with_the_way_out(files):
    for family, scale in (("mfm", 3.0), ("repa", 2.5)):
        with pytest.raises(UserError, match=r"was not trained on guidance .*cfg=plain"):
            _ = task_of(files, family, guidance=scale).flow
    assert task_of(files, "repa", guidance=3.0, cfg="plain").flow.event_shape == (4, 8, 8)


def test_plain_guidance_counts_both_rows(files):
    from methods.reference import Prior

    method = Prior.create(steps=4)
    plain = bind(named(files, "repa", cfg="plain"), "jpeg-compressibility").spec
    told = bind(named(files), "jpeg-compressibility").spec
    assert sample_work(method, plain).cost("model-nfe") == 8
    assert sample_work(method, told).cost("model-nfe") == 4


@pytest.mark.parametrize(
    ("family", "more"),
    [("mfm", {}), ("sit", {"guidance": 1.0}), ("repa", {"guidance": 4.0, "cfg": "plain"})],
)
def test_the_contracts_of_a_task_hold(files, family, more):
    found = conform("task", named(files, family, pictures=files / "latents", **more), [], [])
    assert {f.check: f.reason for f in found if f.status == "fail"} == {}


def test_points_to_train_on_are_pictures_of_the_classes(files):
    task = task_of(files, pictures=str(files / "latents"), classes=(LABEL, 1))
    shards = LatentShards(files / "latents")
    own = shards.codes(torch.tensor([1, LABEL]))
    draws = task.draw_data(64, generator())
    gap = (draws[:, None] - own.mean).abs() / own.sigma
    assert (gap.flatten(2).mean(2).min(1).values < 1.5).all()
    assert task.weights()["pictures"] == shards.digest
    with pytest.raises(UserError, match="no pictures to train on: encode a folder"):
        task_of(files).draw_data(2, generator())


def test_a_guided_run_spends_what_was_predicted(files, tmp_path):
    content = {
        "name": "guided",
        "tasks": [named(files, "repa", guidance=4, cfg="plain")],
        "rewards": ["jpeg-compressibility"],
        "methods": ["prior:steps=3", "mfm-gf:posterior=glass,inner_steps=2,draws=2,steps=5"],
        "seeds": 1,
        "n": 2,
    }
    suite = build_suite(content)
    store = Store(str(tmp_path), suite.name)
    assert run_suite(suite, store, Inline, Silent()).statuses == {"ok": 2}
    cells = store.table("cells").set_index("method_name")
    assert cells.predicted_equal.all()
    assert cells.loc["prior", "sample_flow_forward"] == 2 * 3 * 2


# -- bad input -------------------------------------------------------------------------------------


def said(files: Path, values: dict[str, object]) -> str:
    """The one sentence with which a task is refused when it is bound or first used."""
    with pytest.raises(UserError) as raised:
        task = ImageNet.create(**{**paths(files), **values})
        task.weights()
        _ = task.data_shape, task.flow
        task.decode(torch.zeros(1, *task.event_shape))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_not_there_is_said_with_the_way_to_get_it(files, tmp_path, monkeypatch):
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    assert "run 'bench prefetch mfm-xl2' (2,740 MB)" in said(files, {"checkpoint": ""})
    assert "bench prefetch sd-vae-ft-mse-config" in said(files, {"autoencoder": ""})
    assert "there is no weight file" in said(files, {"checkpoint": str(tmp_path / "no.pt")})
    assert "it has no config.json" in said(files, {"autoencoder": str(tmp_path)})
    config = (files / "vae" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    assert "has no weights" in said(files, {"autoencoder": str(tmp_path)})


def test_what_does_not_belong_together_is_said(files, tmp_path):
    other = write_autoencoder(tmp_path / "three", channels=3)
    assert "has 3 latent channels, and the flow 4" in said(files, {"autoencoder": str(other)})
    scaled = write_autoencoder(tmp_path / "xl", scaling_factor=0.13025)
    assert "scales its latents by 0.13025" in said(files, {"autoencoder": str(scaled)})
    foreign = write_autoencoder(tmp_path / "vq", _class_name="VQModel")
    assert "holds a VQModel" in said(files, {"autoencoder": str(foreign)})
    unlike = write_autoencoder(tmp_path / "unlike", norm_num_groups=2, layers_per_block=2)
    assert "config.json" in said(files, {"autoencoder": str(unlike)})
    assert "give family=mfm" in said(files, {"family": "repa"})
    assert "DiT is a diffusion" in said(files, {"family": "dit"})


def test_a_checkpoint_of_another_size_is_said(files, tmp_path):
    state = load_file(files / "mfm.safetensors")
    save_file(state, tmp_path / "odd.safetensors")
    assert "a size that was not published" in said(
        files, {"checkpoint": str(tmp_path / "odd.safetensors")}
    )


def test_weights_that_lack_a_tensor_are_refused_and_not_filled_in(files, tmp_path):
    folder = write_autoencoder(tmp_path / "short")
    state = load_file(folder / latents.WEIGHTS)
    del state["decoder.conv_out.weight"]
    save_file(state, folder / latents.WEIGHTS, {"format": "pt"})
    assert "missing decoder.conv_out.weight" in said(files, {"autoencoder": str(folder)})


def test_an_autoencoder_that_holds_nan_is_refused(files, tmp_path):
    folder = write_autoencoder(tmp_path / "nan")
    state = load_file(folder / latents.WEIGHTS)
    state["decoder.conv_out.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, folder / latents.WEIGHTS, {"format": "pt"})
    assert "decoder.conv_out.weight holds NaN" in said(files, {"autoencoder": str(folder)})


def test_rows_say_which_weights_of_a_training_were_taken(files, tmp_path):
    assert task_of(files).doubt(None) == ""
    state = load_file(files / "mfm.safetensors")
    mean = {f"ema.{name}": value.half() for name, value in state.items()}
    save_file(state | mean, tmp_path / "both.safetensors", settings())
    both = {**paths(files), "checkpoint": str(tmp_path / "both.safetensors")}
    told = ImageNet.create(**both).doubt(None)
    assert "the moving average under 'ema.' was taken, not the raw weights" in told
    assert "float16 in the file and float32 in the network" in told


def test_classes_that_do_not_exist(files):
    with pytest.raises(UserError, match="no class 1000: labels run from 0 to 999"):
        task_of(files, classes=(1000,)).conditions("report")
    task = task_of(files, classes=(281,))
    x = torch.zeros(1, *task.event_shape)
    with pytest.raises(UserError, match="no class 281"):
        task.flow.velocity(x, torch.zeros(1), task.conditions("report")[0])


@pytest.mark.parametrize("more", [{}, {"cfg": "plain", "guidance": 2.0}])
@pytest.mark.parametrize(
    "method", ["mfm-g:steps=5,draws=2", "dps:steps=5", "fk:steps=5,particles=2"]
)
def test_labels_share_a_cell_and_the_calls_of_the_network(method, more, files):
    """The network hears a label per row, guided or told its guidance; rewards read sentences."""
    given = {
        "name": "labels",
        "tasks": [named(files, classes="3|7|1", **more)],
        "rewards": ["callable:function=tests.worlds.brightness:brightness,gradient=true"],
        "methods": [method],
        "seeds": 1,
        "n": N,
    }
    (many,), ones = (expand(build_suite({**given, "conditions_per_cell": per})) for per in (3, 1))
    if many.status == "skipped":
        assert "flow map" in many.reason and more
        return
    together = Job(many.cell, metrics=("reward",)).run()
    apart = [Job(one.cell, metrics=("reward",)).run() for one in ones]
    assert together.status == "ok", together.log
    x, *rest = (unpack_samples(a.samples).x for a in (together, *apart))
    assert (x - torch.cat(rest)).abs().max() < 1e-5 * x.abs().max()
    assert rows_agree(many, together)
    said = [row.condition for row in together.metrics]
    assert said == [spelled(one.cell.condition) for one in ones]
