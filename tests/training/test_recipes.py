"""Training: what it needs and says, a loss that falls, folds that are apart, whole weights."""

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from rich.console import Console
from torch import nn

from bench import worlds
from bench.cli.train_view import Note, View
from bench.core.params import UserError
from bench.models import digits, weights
from bench.models.digits_data import FOLDS, fold, real_digits
from bench.models.gaussian import GaussianModel
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.mixture import paper_mixture
from bench.tasks.gmm import RandomMixture
from bench.training import maps
from bench.training.sources import unlabelled
from bench.training.trainer import TrainConfig, Trainer
from bench.training.validation import Journal
from tests.worlds.small_training import small


def test_a_short_training_needs_no_ray(tmp_path):
    """`bench train` as a program to which Ray and MLflow are not there."""
    code = f"""
import sys; sys.modules["ray"] = sys.modules["mlflow"] = None
from dataclasses import replace
from bench.worlds import gmm_paper as world
world.WORLD = replace(world.WORLD, quality=lambda *_: {{}})
from bench.cli.main import app
app(["train", "gmm-paper", "--shorten", "0.0005", "--no-track", "--validate-every", "4",
     "--work", {str(tmp_path / "work")!r}, "--to", {str(tmp_path)!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    (folder,) = (tmp_path / "work").iterdir()
    rows = Journal(folder / "validation.jsonl").rows()
    assert [row["step"] for row in rows] == [4, 6]
    assert {"frechet-1", "energy-0.2-map-1", "energy-0.2-glass-1", "value-0.5-map-4"} <= set(
        rows[0]
    )
    assert "map 4/6" in done.stdout and " left: frechet-1 " in done.stdout
    assert (tmp_path / "gmm-paper.safetensors").is_file()
    found = json.loads((folder / "recipe.json").read_text())
    assert found["map_steps"] == 6 and found["batch"] == 1024


def test_what_a_training_says_is_shown_and_logged():
    kept, screen = [], io.StringIO()
    with View(lambda *row: kept.append(row), Console(file=screen, width=100)) as view:
        view(Note("map", 100, 40, {}))  # it goes on from step 40
        view(Note("map", 100, 50, {"diagonal": 0.5}))
        view(Note("map", 100, 50, {"frechet-1": 0.25, "joint-0.2-map-1": 1.0}, measured=True))
    assert kept == [
        ("map", 50, {"diagonal": 0.5}),
        ("map", 50, {"validation.frechet-1": 0.25, "validation.joint-0.2-map-1": 1.0}),
    ]
    shown = screen.getvalue()
    assert "map 50/100, " in shown and "left: frechet-1 0.2500" in shown
    assert "diagonal 0.5000" in shown


def test_training_lowers_the_loss_and_a_nan_stops_it(tmp_path):
    """Distilling the exact velocity leaves no irreducible loss, so a short run must show."""
    seen = []
    mixture = paper_mixture(torch.float32)

    def trained(steps):
        """The loss after a number of steps, on draws that are always the same."""
        recipe = small(map_steps=steps, map_width=48, batch=128)
        statistics = mixture.sample(5000, torch.Generator().manual_seed(0))
        world = unlabelled(mixture.sample, statistics), lambda _: mixture.velocity
        folder = tmp_path / str(steps)
        net = maps.train_map(*world, recipe, 1, folder, lambda *row: seen.append(row))
        fresh = torch.Generator().manual_seed(5)
        objective = maps.map_losses(*world, replace(recipe, batch=4096))
        return float(objective(net, net, fresh)["diagonal"])

    assert trained(300) < 0.96 * trained(1)  # most of these steps are warm-up
    assert [step for step, _ in seen] == [50, 100, 150, 200, 250, 300, 1]
    net = nn.Linear(1, 1)

    def broken(model, average, generator):
        return {"bad": model(torch.ones(1, 1)).sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        Trainer(net, broken, TrainConfig(5), tmp_path / "nan").run()


def test_folds_are_disjoint_and_held_out_is_apart():
    parts = [fold(name).x.flatten(1) for name in FOLDS] + [real_digits("held-out").x.flatten(1)]
    assert sum(map(len, parts)) == 1797 and len(parts[3]) == 360
    distances = [torch.cdist(a, b).min() for i, a in enumerate(parts) for b in parts[:i]]
    assert min(distances) > 0


def test_shipped_weights_are_small_and_described():
    for name in ("digits", "gmm-paper"):
        path = weights.find(name)
        assert path.stat().st_size < 10e6
        recipe = json.loads(path.with_suffix(".json").read_text())
        assert recipe["recipe"]["seed"] == 0 and recipe["quality"] and recipe["training"]["map"] > 0
    quality = json.loads(weights.find("digits").with_suffix(".json").read_text())["quality"]
    assert min(quality["accuracy"].values()) > 0.93
    assert quality["memorisation_ratio"] > 0.5
    for figures in quality["posterior"].values():
        shuffled, one = figures["map-1-shuffled"], figures["map-1"]
        assert shuffled[0] > 2 * one[0] and shuffled[1] > 2 * one[1]
    for t in ("0.2", "0.5"):
        figures = quality["posterior"][t]
        for k in (0, 1):
            assert figures["map-1"][k] < min(figures["glass-1"][k], figures["glass-2"][k])


def test_partial_and_foreign_weights_are_refused(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setenv("TILTBENCH_WEIGHTS", str(tmp_path))
    state = {f"flow.{k}": v for k, v in FlowNet((1, 8, 8)).state_dict().items()}
    state.pop("flow.gaussian.mean")
    save_file(state, tmp_path / "digits.safetensors")
    with pytest.raises(UserError, match=r"gaussian\.mean"):
        weights.load_into(FlowNet((1, 8, 8)), "digits", "flow")
    with pytest.raises(UserError, match="hold no 'map' network"):
        weights.load_into(MetaFlowMapNet((1, 8, 8)), "digits", "map")


def test_gaussian_model_floors_constant_directions():
    data = torch.cat([torch.randn(500, 2), torch.ones(500, 1)], 1)
    model = GaussianModel(3)
    model.fit(data)
    assert float(model.eigenvalues.min()) == pytest.approx(1e-3)
    assert digits.FEATURES * 10 <= 128  # a quickstart cell is large enough for a Frechet distance


def test_a_task_names_its_world(monkeypatch):
    """Also somebody else's; a task without trained networks says so."""
    assert worlds.of_task("gmm-paper").recipe.flow_steps == 0
    for task in ("gmm-paper", "digits", "shapes"):
        world, path = worlds.of_task(task), weights.find(task).with_suffix(".json")
        shipped = json.loads(path.read_text())["recipe"]
        assert shipped.items() <= asdict(world.recipe).items()
    with pytest.raises(UserError, match="the task 'gmm' has no networks to train"):
        worlds.of_task("gmm")
    monkeypatch.setattr(RandomMixture, "world", "bench.worlds.gmm_paper:WORLD")
    assert worlds.of_task("gmm") is worlds.of_task("gmm-paper")
    monkeypatch.setattr(RandomMixture, "world", "nowhere:WORLD")
    with pytest.raises(UserError, match="'nowhere:WORLD' of 'gmm' cannot be loaded"):
        worlds.of_task("gmm")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        worlds.of_task("digit")
