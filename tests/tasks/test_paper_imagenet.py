"""The paper's ImageNet suites from end to end on small files: only paths and sizes are others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.conditions import spelled
from bench.core.params import UserError, format_name, parse_name
from bench.models.picture_folder import write_pictures
from bench.plan.expand import expand
from bench.plan.suite import build_suite, load_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import Outcome, run_suite
from rewards.image_reward import ImageReward
from tests.worlds import tiny_networks
from tests.worlds.picture_files import save
from tests.worlds.silent import Silent
from tests.worlds.tiny_imagenet import write_autoencoder, write_map

# Fixtures: pytest looks for them in this module.
tiny, path, blip_files = tiny_networks.tiny, tiny_networks.path, tiny_networks.blip_files

STEERING = {
    "label": 281,
    "text": "A high-quality, high-resolution photograph of a tabby cat.",
}
RELEASED = {"label": 281, "text": "A high-resolution, high-quality photograph of a tabby cat"}
SUITES = ("paper-imagenet", "paper-imagenet-base", "paper-imagenet-ft")
FEWER: Mapping[str, Mapping[str, int]] = {
    "prior": {"steps": 2},
    "best-of-n": {"steps": 10, "candidates": 10},
    "best-of-n-fewstep": {"candidates": 10},
    "mfm-search": {"steps": 5, "particles": 8},
    "mfm-ft": {"steps": 2, "iterations": 2, "batch": 2},
    "itm": {"steps": 2, "iterations": 2, "batch": 2},
}
"""The most of each number that a CPU has time for; steering methods take 5 steps and 4 draws."""
STEERED = {"steps": 5, "draws": 4}


def smaller(text: str) -> str:
    """A method with every number of `FEWER` at most as large."""
    name, values = parse_name(text)
    most = FEWER.get(name, STEERED)
    return format_name(name, {k: min(v, most[k]) if k in most else v for k, v in values.items()})


def with_values(text: str, more: Mapping[str, Any]) -> str:
    name, values = parse_name(text)
    return format_name(name, {**values, **more.get(name, {})})


def in_small(suite: str, paths: Mapping[str, Any]) -> dict[str, Any]:
    """The suite with paths to small files, and with smaller numbers."""
    content = json.loads(json.dumps(load_suite(suite)))
    content["n"] = 2
    for block in [content, *content.get("blocks", [])]:
        for key in ("tasks", "rewards"):
            if key in block:
                block[key] = [with_values(text, paths) for text in block[key]]
        if "methods" in block:
            block["methods"] = list(dict.fromkeys(map(smaller, block["methods"])))
    return dict(content)


@pytest.fixture
def paths(tmp_path, path, blip_files, monkeypatch) -> dict[str, dict[str, Any]]:
    """Where the small files are, by the plugin that reads them."""
    monkeypatch.setattr(ImageReward, "config", tiny_networks.SMALL)
    files = tmp_path / "files"
    code = write_autoencoder(files / "vae")
    network = write_map(files / "mfm.safetensors", classes=1000)
    return {
        "imagenet256": {"checkpoint": str(network), "autoencoder": str(code)},
        "hpsv2": {"weights": path},
        "pickscore": {"weights": path},
        "image-reward": {
            "weights": str(blip_files / "blip.pt"),
            "vocabulary": str(blip_files / "vocab.txt"),
        },
    }


def run(root: Path, content: dict[str, Any]) -> tuple[Store, Outcome]:
    suite = build_suite(content)
    store = Store(str(root), suite.name)
    return store, run_suite(suite, store, Inline, Silent())


# -- the suites as they are shipped ----------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_without_its_weights_says_what_fetches_them(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path))
    content = load_suite(suite)
    assert content["name"] == suite and content["description"]
    with pytest.raises(UserError, match=r"run 'bench prefetch [a-z0-9-]+' \([0-9,]+ MB\)"):
        expand(build_suite(content))


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_can_be_planned_where_the_paths_are_given(suite, paths):
    content = load_suite(suite)
    for block in [content, *content.get("blocks", [])]:
        for key in ("tasks", "rewards"):
            if key in block:
                block[key] = [with_values(text, paths) for text in block[key]]
    rows = expand(build_suite(content))
    assert rows and {row.status for row in rows} == {"pending"}
    text = {row.cell.condition["text"].rstrip(".") for row in rows}
    assert {row.cell.condition["label"] for row in rows} == {281}
    assert all(sentence.endswith("photograph of a tabby cat") for sentence in text)


def test_the_costs_are_those_that_the_paper_counts(paths):
    """F.3.5: 1,250 to 32,250 evaluations of MFM-G, 251,000 of Best-of-1000; the decoder is free."""
    content = load_suite("paper-imagenet")
    blocks = content["blocks"]
    content["tasks"] = [with_values("imagenet256", paths)]
    content["blocks"] = [
        {**block, "rewards": [with_values("hpsv2", paths)]} for block in blocks[:3]
    ]
    cost = {
        row.method_label: row.predicted.cost("paper-nfe") for row in expand(build_suite(content))
    }
    for draws in (1, 2, 4, 8, 16, 32):
        assert cost[f"mfm-g:draws={draws},steps=250,scale=rescale"] == 250 + 4 * draws * 250
    for draws in (2, 4, 8, 16, 32):
        assert cost[f"mfm-gf:draws={draws},steps=250,scale=rescale"] == 250 + 2 * draws * 250
    assert cost["best-of-n:candidates=1000,steps=250"] == 251_000
    assert cost["dps:steps=250,scale=rescale"] == 4 * 250
    assert cost["mfm-search:particles=8,steps=250"] == 2 * 8 * 4 * 250


# -- from end to end -------------------------------------------------------------------------------


def test_the_steering_experiment_runs_to_a_folder_of_pictures(paths, tmp_path):
    store, outcome = run(tmp_path / "runs", in_small("paper-imagenet", paths))
    assert set(outcome.statuses) == {"ok"}
    cells, metrics = store.table("cells"), store.table("metrics")
    assert cells.predicted_equal.all()
    rewards = metrics[metrics.metric == "reward"]
    assert len(rewards) == len(cells) and rewards.value.notna().all()
    assert set(cells.condition) == {spelled(STEERING), spelled(RELEASED)}
    again, repeated = run(tmp_path / "runs", in_small("paper-imagenet", paths))
    assert repeated.executed == 0 and again.table("cells").equals(cells)
    chosen = cells[cells.reward.str.startswith("hpsv2") & (cells.condition == spelled(STEERING))]
    folder = shown(store, chosen, tmp_path / "pictures")
    found = evaluated(folder, f"hpsv2:weights={paths['hpsv2']['weights']}")
    assert found["n"] == 2 * len(chosen)
    # 8 bits and the clamp are all that lie between the decoded latents and the files.
    scored = rewards[rewards.cell.isin(chosen.cell)].value
    assert found["value"] == pytest.approx(scored.mean(), abs=2e-3)


def shown(store: Store, cells: pd.DataFrame, folder: Path) -> Path:
    """The rendered samples of some cells as files with their sentence, as people look at them."""
    places = [Path(store.path) / "cells" / cell / "attempts" for cell in cells.cell]
    files = [next(place.glob("*/samples.safetensors")) for place in places]
    pictures = torch.cat([load_file(file)["rendered"] for file in files])
    write_pictures(folder, pictures, [{"prompt": STEERING["text"]}] * len(pictures))
    return folder


def evaluated(folder: Path, reward: str) -> dict[str, Any]:
    arguments = ["evaluate", str(folder), "-r", reward, "--encoders", "pixels", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    return next(row for row in rows if row["metric"].startswith("reward"))


def test_the_base_model_runs(paths, tmp_path):
    store, outcome = run(tmp_path / "runs", in_small("paper-imagenet-base", paths))
    assert outcome.statuses == {"ok": 5} and store.table("cells").predicted_equal.all()


def test_fine_tuning_runs_on_encoded_pictures(paths, tmp_path):
    random = np.random.default_rng(0)
    for name in ("n0", "n1"):
        for k in range(3):
            save(tmp_path / "set" / name / f"{k}.png", random.integers(0, 256, (40, 40, 3), "u1"))
    own = paths["imagenet256"]
    command = ["prepare", "latents", str(tmp_path / "set"), "--to", str(tmp_path / "latents")]
    command += ["--autoencoder", own["autoencoder"], "--side", "32"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "6 pictures of 2 classes in 1 shards" in done.output
    # The small set has no cats: its second class stands for them.
    small = {**own, "pictures": str(tmp_path / "latents"), "classes": 1}
    content = in_small("paper-imagenet-ft", {**paths, "imagenet256": small})
    content["rewards"] = content["rewards"][:1]
    store, outcome = run(tmp_path / "runs", content)
    assert outcome.statuses == {"ok": 4}
    cells = store.table("cells")
    assert len(cells) == 4 and cells.predicted_equal.all()
