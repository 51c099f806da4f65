"""What is not comparable never stands under one name: parameters, unit and usual range."""

import json

import numpy as np
import pytest
import torch

from bench.core import plugins
from bench.plan.binding import label_of, make_reward
from rewards.pictures import Scale
from tests.worlds import tiny_networks
from tests.worlds.picture_files import save
from tests.worlds.tiny_networks import NAME

# Fixtures: pytest looks for them in this module.
tiny, path = tiny_networks.tiny, tiny_networks.path

APART = [
    ("hpsv2:release=v2.0", "hpsv2:release=v2.1"),
    ("pickscore:unit=cosine", "pickscore:unit=logit"),
    ("clip:unit=cosine", "clip:unit=logit"),
    ("clip:model=ViT-B-32", "clip:model=ViT-L-14-quickgelu"),
    ("prompt:unit=cosine", "prompt:unit=logit"),
    ("hpsv2", "hpsv2:weights=/other.pt"),
    ("hpsv2", "hpsv2:precision=bfloat16"),
    ("jpeg-compressibility", "jpeg-compressibility:pixels=unit"),
    ("sum:rewards=hpsv2", "sum:rewards=hpsv2,weights=2"),
    ("callable:function=a:f", "callable:function=a:g"),
]


def label(text):
    name, reward, _ = make_reward(text)
    return label_of(name, reward)


@pytest.mark.parametrize(("one", "other"), APART)
def test_other_numbers_have_other_names(one, other):
    assert label(one) != label(other)


def test_a_label_says_the_release_and_the_unit_although_they_are_defaults():
    assert label("hpsv2") == label("hpsv2:release=v2.1") == "hpsv2:release=v2.1"
    assert label("pickscore") == "pickscore:unit=logit"
    assert label("clip") == "clip:model=ViT-B-32,unit=cosine"
    assert label("prompt") == "prompt:unit=cosine"
    assert label("clip:activation=gelu") == label("clip")  # no number depends on it


def test_a_label_reads_back():
    for text in (side for pair in APART for side in pair):
        assert label(label(text)) == label(text)


@pytest.mark.parametrize(
    ("text", "unit", "usual"),
    [
        ("hpsv2", "cosine", "0.2 to 0.35"),
        ("pickscore", "cosine times logit scale", "18 to 24"),
        ("pickscore:unit=cosine", "cosine", "0.18 to 0.24"),
        ("clip", "cosine", "0.15 to 0.35"),
        ("clip:unit=logit", "cosine times logit scale", "15 to 35"),
        ("aesthetic", "rating", "4 to 7"),
        ("image-reward", "standardised score", "-2 to 2"),
        ("jpeg-compressibility", "kB, negative", "at most 0"),
        ("classifier", "log-probability", "at most 0"),
        ("prompt:unit=logit", "cosine times logit scale", ""),
    ],
)
def test_the_scale_is_that_of_the_parameters(text, unit, usual):
    scale = make_reward(text)[1].scale
    assert (scale.unit, scale.usual) == (unit, usual)


def test_every_picture_reward_states_its_scale():
    needed = {"sum": "sum:rewards=hpsv2", "callable": "callable:function=a:f"}
    names = [n for n in plugins.points("rewards") if n not in ("http",)]
    found = {n: make_reward(needed.get(n, n))[1] for n in names}
    pictures = {n: r for n, r in found.items() if r.wants == "pixels" or n in needed}
    assert len(pictures) >= 9
    for name, reward in pictures.items():
        assert isinstance(reward.scale, Scale) and reward.scale.unit, name


def test_rows_of_a_folder_stand_apart(path, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from bench.cli.main import app

    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    for k in range(3):
        save(tmp_path / "own" / f"{k}.png", np.full((32, 32, 3), 60 * k, np.uint8))
    asked = [f"hpsv2:weights={path},release=v2.0", f"hpsv2:weights={path},release=v2.1"]
    asked += [f"clip:weights={path},model={NAME},unit={unit}" for unit in ("cosine", "logit")]
    given = [v for text in asked for v in ("-r", text)]
    out = tmp_path / "rows.csv"
    done = CliRunner().invoke(
        app,
        ["evaluate", str(tmp_path / "own"), *given, "--prompt", "a cat", "--encoders", "pixels",
         "--json", "--out", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    rows = [row for row in json.loads(done.stdout) if row["metric"].startswith("reward")]
    assert len({row["metric"] for row in rows}) == 4
    assert [row["unit"] for row in rows] == ["cosine"] * 3 + ["cosine times logit scale"]
    assert all(row["usual"] for row in rows)
    assert out.read_text().splitlines()[0].endswith("unit,usual")
    scale = make_reward(asked[3])[1].model(torch.zeros(1)).logit_scale
    assert rows[3]["value"] == pytest.approx(rows[2]["value"] * scale, rel=1e-4)
