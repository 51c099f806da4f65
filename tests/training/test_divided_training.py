"""`bench train --workers 2 --fsdp`: workers that hold a half each end in the weights of one."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map_only
from typer.testing import CliRunner

from bench.cli.main import app
from bench.cli.train import Training
from bench.cli.train_subjects import OwnSubject, Subject, TaskSubject
from bench.core.divided import clip_norm, put_together
from bench.core.divided_workers import DividedProcesses, entered
from bench.core.params import UserError
from bench.core.workers import ALONE
from bench.models.autoencoder import Autoencoder
from bench.models.clip_small import SmallCLIP
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.nets import DigitClassifier
from bench.training.trainer import Setting, TrainConfig, Trainer
from bench.training.validation import Journal
from tests.worlds.two_workers import together

SHORT = {
    "flow_steps": 4, "map_steps": 4, "batch": 8, "warmup": 1, "learning_rate": 0.003,
    "flow_ema": 0.5, "map_ema": 0.5, "depth": 2,
}  # fmt: skip
OWN = {**SHORT, "flow_width": 32, "map_width": 32, "guided_share": 0.3}
"""Few rows, so that at times none of a worker's is guided: it has to call the network yet."""

WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "points, semigroup": ("points.npz", OWN),
    "points, a derivative": ("points.npz", {**OWN, "consistency": "eulerian-self"}),
    "points, from data": ("points.npz", {**OWN, "diagonal": "data", "consistency": "mean-flow"}),
    "pictures, unet": ("pictures.npz", {**OWN, "network": "unet", "flow_width": 8, "map_width": 8}),
    "pictures, dit": ("pictures.npz", {**OWN, "network": "dit"}),
    "digits": ("digits", {**SHORT, "classifier_steps": 4}),
}
NAMES = list(WORLDS)
RESUMED = NAMES[0]
"""One worker begins its flow, and two go on from the second step."""


def training_of(name: str, folder: Path, work: Path, fsdp: bool) -> Training:
    """As the command line makes it, with figures every second step."""
    source, changes = WORLDS[name]
    subject: Subject = TaskSubject("digits", tuple(changes.items()))
    if source != "digits":
        subject = OwnSubject(f"{folder / source}:x", "y", "", tuple(changes.items()))
    every = 2 if name == RESUMED else 0
    return Training(subject.name, subject.recipe(), work, every, subject, fsdp)


def weights(training: Training, group) -> dict[str, dict[str, np.ndarray]]:
    """What a worker ends with, by network."""
    networks = training(group, "cpu", lambda _: None)
    states = {name: net.state_dict() for name, net in networks.items()}
    return tree_map_only(torch.Tensor, lambda value: value.numpy().copy(), states)


class Scaled(nn.Module):
    """A layer and a number that scales it, which cannot be divided."""

    entrances = ("forward",)

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.size = nn.Linear(3, 4), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.size * self.layer(x)


def regression(group, folder: Path, shards: int = 1) -> dict[str, np.ndarray]:
    """Of steps that are all clipped."""

    def losses(model, _, generator):
        x = torch.randn(8, 3, generator=generator)
        return {"mse": (model(x=x) - x.sin().sum(1, keepdim=True)).square().mean()}

    torch.manual_seed(0)
    config = TrainConfig(6, 0.05, warmup=1, ema=0.5, clip=0.01, accumulate=shards, optimizer="adam")
    trainer = Trainer(Scaled(), losses, config, folder, Setting(group=group))
    found = {name: value.numpy().copy() for name, value in trainer.run().state_dict().items()}
    whole = put_together(trainer.average, trainer._outline)
    held = [value.data_ptr() for value in trainer.average.state_dict().values()]
    shared = any(value.data_ptr() in held for value in whole.state_dict().values())
    assert shared is (group is ALONE), "what is put together is a network of its own"
    kept = put_together(trainer.average, trainer._outline, kept=False)
    assert kept is trainer.average
    return found


def divided_regression(_, folder: Path) -> dict[str, np.ndarray]:
    return regression(DividedProcesses("cpu"), folder)


@dataclass(frozen=True)
class Trained:
    """What workers ended with by (rank, world), and where."""

    told: dict[tuple[int, int], Any]
    folder: Path


def make_data(folder: Path) -> None:
    g = np.random.default_rng(0)
    y = g.integers(0, 3, 64)
    np.savez(folder / "points.npz", x=g.normal(size=(64, 2)) + 3 * y[:, None], y=y)
    np.savez(folder / "pictures.npz", x=g.random((64, 1, 8, 8)).astype("float32"), y=y)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("divided")
    make_data(folder)
    begin(replace(training_of(RESUMED, folder, folder / "0", False), validate_every=0))
    trainings = [training_of(name, folder, folder / str(k), True) for k, name in enumerate(NAMES)]
    jobs = [partial(weights, training) for training in trainings]
    jobs.append(partial(divided_regression, folder=folder / "regression"))
    return Trained(together("whole", jobs, folder), folder)


def begin(training: Training) -> None:
    """Two steps of the flow by one worker, which measures nothing and is then interrupted."""
    update = Trainer._update

    def stop(trainer: Trainer) -> dict[str, float]:
        if trainer.step == 2:
            trainer._save()
            raise KeyboardInterrupt
        return update(trainer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_update", stop)
        weights_in_halves(training, patch)


def weights_in_halves(training: Training, patch: pytest.MonkeyPatch):
    """One process's, which makes a batch of two shards, as two workers do."""
    init = Trainer.__init__

    def halved(self, model, losses, config, *rest):
        init(self, model, losses, replace(config, accumulate=2), *rest)

    patch.setattr(Trainer, "__init__", halved)
    half = replace(training.recipe, batch=training.recipe.batch // 2)
    return weights(replace(training, recipe=half), ALONE)


def far(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference, in parts of the largest weight."""
    size = max(float(abs(value).max()) for value in one.values() if value.size)
    return max(float(abs(v - other[n]).max()) for n, v in one.items() if v.size) / size


def test_what_is_trained_says_how_it_is_called():
    nets = [cls.__new__(cls) for cls in (FlowNet, MetaFlowMapNet)]
    assert [list(entered(net)) for net in nets] == [[(net, ("labelled",))] for net in nets]
    nets = [cls.__new__(cls) for cls in (Autoencoder, DigitClassifier, SmallCLIP)]
    assert [list(entered(net)) for net in nets] == [[(net, ("forward",))] for net in nets]


def test_numbers_that_cannot_be_divided_are_trained_too(trained, tmp_path):
    """Also where gradients are clipped by the norm of both kinds together."""
    alone = regression(ALONE, tmp_path, 2)
    ours = [trained.told[rank, len(NAMES)] for rank in range(2)]
    assert max(far(alone, one.made) for one in ours) < 1e-6
    assert abs(float(alone["size"]) - 2) > 0.1  # it has moved
    assert [one.held for one in ours] == [4 * 8] * 2  # halves of the layer; numbers not counted


def test_gradients_are_clipped_by_their_common_norm():
    def some():
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.zeros(n)) for n in (3, 4)]
        for p in parameters:
            p.grad = torch.randn(p.shape)
        return parameters, [p.grad for p in parameters]

    (ours, got), (theirs, expected) = some(), some()
    clip_norm(ours, 0.5)
    nn.utils.clip_grad_norm_(theirs, 0.5)
    assert all(map(torch.equal, got, expected))
    clip_norm([nn.Parameter(torch.zeros(2))], 0.5)  # without any gradient


def test_parts_for_one_worker_are_refused(tmp_path):
    arguments = ["train", "gmm-paper", "--fsdp", "--no-track", "--work", str(tmp_path)]
    with pytest.raises(UserError, match="divides weights among workers: give --workers as well"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not list(tmp_path.rglob("*"))


def test_rank_0_measures_whole_networks(trained):
    """Also of the two steps that the flow had from somebody else, who measured nothing."""
    rows = Journal(trained.folder / "0" / "validation.jsonl").rows()
    seen = [(row["stage"], row["step"]) for row in rows]
    assert seen == [("flow", 2), ("flow", 4), ("map", 2), ("map", 4)]
    assert all(np.isfinite(row["frechet-1"]) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_with_a_half_each_train_as_one(trained, name, tmp_path, monkeypatch):
    """Adam moves weights that have next to no gradient by the sign of its rounding."""
    k = NAMES.index(name)
    ours = [trained.told[rank, k] for rank in range(2)]
    training = training_of(name, trained.folder, tmp_path, False)
    alone = weights_in_halves(training, monkeypatch)
    for one in ours:
        assert one.made.keys() == alone.keys()
        assert max(far(alone[net], one.made[net]) for net in alone) < 5e-5
    held = [one.held for one in ours]  # of the last network that was trained
    assert abs(held[0] - held[1]) < 0.05 * sum(held)
    total = 4 * sum(v.size for v in list(alone.values())[-1].values())
    assert sum(held) < 1.01 * total
