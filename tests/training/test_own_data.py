"""`bench train --data`: from somebody's rows to a task, the same after a kill, nothing mixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import make_moons
from typer.testing import CliRunner

from bench.cli.main import app
from bench.conformance.check import conform
from bench.core.metrics import Target
from bench.core.params import UserError
from bench.core.values import Samples
from bench.metrics.tilted_data import TiltedMMD
from bench.models.backbones import BackboneSpec, make_backbone
from bench.models.data_set import DataSet
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.tasks.trained import Trained
from bench.worlds import own
from rewards.function import FunctionReward
from tests.reading.test_data_set import picture

TINY = ("--no-track", "--validate-every", "0")
STEPS = {"flow_steps": 3, "map_steps": 3, "batch": 16, "flow_width": 8, "map_width": 8, "depth": 1}
N = 60
MEASURED = own.own_quality


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Quality takes seconds, and is measured in a test of its own."""
    monkeypatch.setattr(own, "own_quality", lambda *_: {})


@pytest.fixture
def points(tmp_path) -> Path:
    angle = np.linspace(0, np.pi, N)
    moons = np.stack([np.cos(angle), np.sin(angle)], 1)
    moons[::2] = [1, 0.5] - moons[::2]
    half = np.arange(N) % 2
    np.savez(tmp_path / "moons.npz", x=moons, half=half, third=np.arange(N) % 3, other=moons + 1)
    return tmp_path / "moons.npz"


def trained(to: Path, *arguments: str, **steps: object) -> str:
    """What `bench train` says; it must succeed."""
    found = CliRunner().invoke(app, ["train", *command(to, *arguments, **steps)])
    assert found.exit_code == 0, found.output
    return found.output


def command(to: Path, *arguments: str, **steps: object) -> list[str]:
    settings = [f"--set={key}={value}" for key, value in {**STEPS, **steps}.items()]
    return [*arguments, "--to", str(to), *TINY, *settings]


def refused(to: Path, *arguments: str, **steps: object) -> str:
    with pytest.raises(UserError) as raised:
        CliRunner().invoke(
            app, ["train", *command(to, *arguments, **steps)], catch_exceptions=False,
            standalone_mode=False,
        )  # fmt: skip
    assert "\n" not in str(raised.value)
    return str(raised.value)


def data_of(points: Path, labels: str = "half", name: str = "x") -> list[str]:
    return ["--data", f"{points}:{name}", *(["--labels", labels] if labels else [])]


# -- a task at once --------------------------------------------------------------------------------


def test_the_folder_is_a_task_at_once(points, tmp_path):
    said = trained(tmp_path / "mine", *data_of(points), flow_steps=40)
    assert f"bench run -t trained:path={tmp_path / 'mine'}" in said
    record = json.loads((tmp_path / "mine" / "trained.json").read_text())
    assert record["data"]["classes"] == ["0", "1"] and record["data"]["rows"] == N
    assert record["recipe"]["map_steps"] == 3 and record["training"]["map"] > 0
    task = Trained.create(path=str(tmp_path / "mine"))
    conditions = task.conditions("report")
    assert conditions == [{"label": 0, "text": "0"}, {"label": 1, "text": "1"}]
    x, t = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.full((5,), 0.3)
    velocities = [task.flow.velocity(x, t, c) for c in (*conditions, None)]
    assert not torch.equal(velocities[0], velocities[1])
    assert torch.equal(velocities[0], task.flow.velocity(x, t, 0))
    assert task.flow_map.jump(x, t, t + 0.1, conditions[0]).shape == x.shape
    findings = conform("task", f"trained:path={tmp_path / 'mine'}", [], [])
    assert [(f.check, f.reason) for f in findings if f.status == "fail"] == []
    assert len(task.data("all")) == N and len(task.data("train")) == 54
    with pytest.raises(UserError, match=r"7 is none of the classes"):
        task.flow.velocity(x, t, 7)
    with pytest.raises(UserError, match=r"learnt no guidance: take guidance=none"):
        _ = Trained.create(path=str(tmp_path / "mine"), guidance="model").flow


def test_a_run_samples_from_it(points, tmp_path):
    trained(tmp_path / "mine", *data_of(points, ""))
    run = ["run", "-t", f"trained:path={tmp_path / 'mine'}", "-r", "linear", "-m", "mfm-gf",
           "-b", "paper-nfe=60", "--seeds", "1", "--set", "n=16", "--executor", "inline",
           "--no-track", "--root", str(tmp_path / "runs"), "--no-baselines"]  # fmt: skip
    found = CliRunner().invoke(app, run)
    assert found.exit_code == 0, found.output
    assert "ok" in found.output or "mfm-gf" in found.output


def test_its_quality_is_measured_in_floors_with_the_labels_of_the_data():
    """A map that is the data's own law under each label lies at the floor, and one that mixes the
    labels up does not."""
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    label = (torch.arange(400) % 2).long()
    data = DataSet(x + 6 * label[:, None], label, ("a", "b"))

    class Exact:
        event_shape = (2,)

        def __init__(self, sign):
            self.sign, self.known = sign, Known()

        def given(self, known):
            made = Exact(self.sign)
            made.known = known
            return made

        def jump(self, x, s, u, *_):
            where = self.known.label if self.sign > 0 else 0 * self.known.label
            return x + 6 * where[:, None] if float(s[0]) == 0 else x

        def labelled(self, x, t, known):
            return 6.0 * known.label[:, None].expand_as(x)

    right, wrong = (own.samples_in_floors(data, Exact(k), Exact(k)) for k in (1, -1))
    assert right["map-1"] < 1.5 and right["flow-20"] < 1.5 and wrong["map-1"] > 5


def test_of_large_rows_few_draws_are_measured_and_no_covariances(monkeypatch):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    learned, held_out = DataSet(x).split()
    networks = {"map": MetaFlowMapNet((2,), 8, 1)}
    monkeypatch.setattr(own, "LARGE", 1)
    monkeypatch.setattr(own, "FEW_ROWS", 10)
    asked = []
    monkeypatch.setattr(own, "sliced_w2", lambda a, b: asked.append((len(a), len(b))) or 1.0)
    assert set(MEASURED(networks, learned, held_out)) == {"samples"}
    assert set(asked) == {(10, 10)}
    world = own.world_of(DataSet(x), own.POINTS)
    assert world.law({}) is None


def test_folders_that_are_none_are_said(tmp_path):
    for content, why in ((None, "holds no trained.json"), ("{", "is no JSON"), ("{}", "no recipe"),
                         ('{"recipe": {}}', "has no 'data'")):  # fmt: skip
        if content is not None:
            (tmp_path / "trained.json").write_text(content)
        with pytest.raises(UserError, match=why):
            _ = Trained.create(path=str(tmp_path)).event_shape
    with pytest.raises(UserError, match="no folder holds no"):
        _ = Trained.create().event_shape


def test_pictures_with_a_network_for_pictures(tmp_path):
    for k in range(N):
        picture(tmp_path / "pictures" / f"{k % 2}" / f"{k}.png", 4 * k, side=8, colour=True)
    data = "--data", str(tmp_path / "pictures"), "--labels", "folders"
    for network in ("unet", "dit", "mlp"):
        trained(tmp_path / network, *data, "--network", network)
        task = Trained.create(path=str(tmp_path / network))
        assert task.event_shape == (3, 8, 8)
        assert task.render(task.data("held-out")).shape == (6, 8, 8, 3)
        x, t = torch.zeros(2, 3, 8, 8), torch.full((2,), 0.5)
        assert task.flow.velocity(x, t, 1).isfinite().all()


# -- killed and continued, and nothing mixed -------------------------------------------------------

PROGRAM = """
import functools, sys, torch
from bench.training import maps
from bench.training.trainer import TrainConfig
from bench.worlds import own
maps.TrainConfig = functools.partial(TrainConfig, checkpoint_every=5)
own.own_quality = lambda *_: {}
from bench.cli.main import app
app(["train", *sys.argv[1:]])
"""


def test_killed_and_continued_it_ends_in_the_same_bits(points, tmp_path):
    def start(to: Path) -> subprocess.Popen[bytes]:
        many = command(to, *data_of(points), flow_steps=40, map_steps=400)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *many], env=environment)

    killed = start(tmp_path / "killed")
    folder = tmp_path / "killed" / "training" / "trained-seed0" / "map"
    deadline = time.monotonic() + 120
    while not list(folder.glob("step-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert list(folder.glob("step-*.pt"))
    assert not (tmp_path / "killed" / "trained.safetensors").exists()
    for name in ("killed", "whole"):
        assert start(tmp_path / name).wait() == 0
    ends = [load_file(tmp_path / n / "trained.safetensors") for n in ("killed", "whole")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_another_data_set_recipe_or_label_column_is_refused_by_name(points, tmp_path):
    to = tmp_path / "mine"
    trained(to, *data_of(points))
    trained(to, *data_of(points))  # the same goes on
    for arguments, steps, why in (
        (data_of(points, name="other"), {}, "the training of other data (data differ)"),
        (data_of(points, "third"), {}, "of other data (labels, labels_from differ)"),
        (data_of(points, ""), {}, "of other data (labels, labels_from differ)"),
        (data_of(points), {"map_steps": 4}, "of another recipe (map_steps differ)"),
        (data_of(points), {"consistency": "lagrangian-self"}, "recipe (consistency differ)"),
    ):
        said = refused(to, *arguments, **steps)
        assert why in said and "choose another --work folder, or delete this one" in said
    changed = np.load(points)
    np.savez(points, **{**changed, "x": changed["x"] + 1e-3})
    assert "of other data (data differ)" in refused(to, *data_of(points))


# -- teachers, networks, objectives ----------------------------------------------------------------


def test_a_flow_that_exists_teaches_a_map(points, tmp_path):
    trained(tmp_path / "first", *data_of(points))
    teacher = f"trained:path={tmp_path / 'first'}"
    trained(tmp_path / "second", *data_of(points), "--teacher", teacher)
    first, second = (load_file(tmp_path / n / "trained.safetensors") for n in ("first", "second"))
    flow = [name for name in first if name.startswith("flow.")]
    assert all(torch.equal(first[name], second[name]) for name in flow)
    assert "teacher_weights" in (said := refused(tmp_path / "second", *data_of(points)))
    assert "teacher" in said
    assert "does not know the classes 0, 1, 2" in refused(
        tmp_path / "third", *data_of(points, "third"), "--teacher", teacher
    )


def test_a_trained_folder_measures_the_distance_to_its_tilted_law(tmp_path):
    """Two moons: rows drawn by their weights are near, plain rows are not."""
    np.save(tmp_path / "moons.npy", make_moons(4000, noise=0.05, random_state=0)[0])
    trained(tmp_path / "mine", "--data", str(tmp_path / "moons.npy"))
    task = Trained.create(path=str(tmp_path / "mine"))
    assert "mmd2-tilted" in task.metrics
    target = Target(FunctionReward(lambda x: -2 * (x[:, 0] - 1.5).square()), 1.0)
    law = task.reference(target.reward, 1.0, None, 0, 0)
    tilted, base = (law.x[torch.multinomial(w, 500)] for w in (law.weight, torch.ones(4000)))
    near, far = (TiltedMMD(target)(Samples(x), task) for x in (tilted, base))
    assert near.value < 3 * near.standard_error and far.value > 10 * far.standard_error
    assert near.note.endswith("effective of 4000 rows")


def test_a_task_with_one_condition_teaches_a_map_that_holds_its_flow(points, tmp_path):
    trained(tmp_path / "mine", *data_of(points, ""), "--teacher", "gmm-paper")
    assert not any(k.startswith("flow.") for k in load_file(tmp_path / "mine/trained.safetensors"))
    task = Trained.create(path=str(tmp_path / "mine"))
    x, t = torch.ones(2, 2), torch.full((2,), 0.4)
    inner = task.flow_map.velocity(x, t, t, torch.zeros_like(x), torch.zeros_like(t))
    assert torch.equal(task.flow.velocity(x, t), inner)
    assert "lives in (1, 8, 8), and the data are (2,)" in refused(
        tmp_path / "other", *data_of(points, ""), "--teacher", "digits"
    )


@pytest.mark.parametrize("consistency", ["mean-flow", "lagrangian-self", "eulerian-teacher"])
@pytest.mark.parametrize("network", ["mlp", "unet", "dit"])
def test_every_network_learns_by_derivatives_too(tmp_path, network, consistency):
    for k in range(N):
        picture(tmp_path / "pictures" / f"{k}.png", 4 * k, side=4)
    data = "--data", str(tmp_path / "pictures"), "--network", network
    trained(tmp_path / "mine", *data, consistency=consistency, diagonal="data")


def test_a_network_of_ones_own(points, tmp_path):
    own_class = "tests.worlds.tiny_backbone:Linear"
    trained(tmp_path / "mine", *data_of(points), "--network", own_class)
    task = Trained.create(path=str(tmp_path / "mine"))
    assert task.flow.velocity(torch.zeros(3, 2), torch.zeros(3), 1).shape == (3, 2)
    with pytest.raises(UserError, match=r"nobody knows which weights of .*: take start=random"):
        CliRunner().invoke(app, ["train", *command(
            tmp_path / "other", *data_of(points), "--network", own_class, start="flow"
        )], catch_exceptions=False, standalone_mode=False)  # fmt: skip


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("unett", "unknown network 'unett': did you mean 'unet'"),
        ("unet", "the network 'unet' is for pictures"),
        ("nowhere:Net", "the network 'nowhere:Net' cannot be made"),
        ("tests.worlds.tiny_backbone:Short", r"gives \(2, 1\) for x \(2, 1, 2\)"),
        ("builtins:dict", "cannot be made"),
        ("builtins:repr", "makes a str, no torch module"),
    ],
)
def test_networks_that_do_not_fit_are_said(network, why):
    with pytest.raises(UserError, match=why):
        make_backbone(network, BackboneSpec((2,), 1, 1, 8, 1, 0))


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_backbones_hear_times_labels_and_context(network):
    torch.manual_seed(0)
    flow = FlowNet((1, 8, 8), 16, 1, 3, network)
    net = MetaFlowMapNet((1, 8, 8), 16, 1, classes=3, network=network)
    for value in [*flow.parameters(), *net.parameters()]:
        torch.nn.init.normal_(value, std=0.1)
    x, y = torch.randn(2, 2, 1, 8, 8)
    t, u, scale = torch.full((2,), 0.2), torch.full((2,), 0.7), torch.ones(2)
    zero, one = (Known(torch.full((2,), k), scale) for k in (0, 1))
    answers = [flow.given(zero).velocity(x, t), flow.given(one).velocity(x, t),
               flow.given(zero).velocity(x, u)]  # fmt: skip
    answers += [net.given(k).velocity(x, a, b, c, d)
                for k, a, b, c, d in ((zero, t, u, y, t), (one, t, u, y, t), (zero, t, t, y, t),
                                      (zero, u, u, y, t), (zero, t, u, x, t), (zero, t, u, y, u))
                ]  # fmt: skip
    apart = [bool((a - b).abs().max() > 1e-6) for a in answers for b in answers if a is not b]
    assert all(apart)


def test_what_cannot_be_trained_is_said(points, tmp_path):
    assert "say what to train" in refused(tmp_path)
    assert "say what to train" in refused(tmp_path, "digits", *data_of(points))
    assert "--labels is for own data" in refused(tmp_path, "digits", "--labels", "folders")
    assert "the recipe has no parameter 'stepz'" in refused(tmp_path, *data_of(points), stepz=3)
    assert "unknown consistency objective" in refused(
        tmp_path, *data_of(points), consistency="none"
    )


def test_a_task_without_a_world_is_trained_on_its_own_data(tmp_path, monkeypatch):
    from bench.core.tasks import Task
    from bench.tasks.gmm import RandomMixture

    rows = torch.arange(80.0).reshape(40, 2)
    monkeypatch.setattr(RandomMixture, "data", lambda self, split: rows)
    trained(tmp_path / "mine", "gmm:dimension=2")
    assert len(Trained.create(path=str(tmp_path / "mine")).data("all")) == 40
    monkeypatch.setattr(RandomMixture, "data", lambda self, split: None)
    monkeypatch.setattr(RandomMixture, "draw_data", Task.draw_data)
    assert "has no networks to train, and no data either" in refused(tmp_path / "none", "gmm")
