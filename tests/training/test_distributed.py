"""Several workers are one training: the same weights, one writer, one voice."""

import functools
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.devices import Moving, check_device, on_device
from bench.core.params import UserError
from bench.core.workers import Alone, HoldingAll, WorkerGone
from bench.runner.executors import ray_train
from bench.runner.executors.ray_cluster import cluster
from bench.training import maps
from bench.training.trainer import Setting, TrainConfig, Trainer
from bench.training.validation import Journal
from bench.worlds import gmm_paper

STEPS = 6  # of gmm-paper, shortened


def regression(folder, accumulate, group, stop_at=None):
    """Weights of a small regression with a large learning rate; every update counts."""

    def losses(model, average, generator):
        if trainer.step == stop_at:
            raise InterruptedError
        x = torch.randn(16, 3, generator=generator)
        return {"mse": (model(x) - x.sin().sum(1, keepdim=True)).square().mean()}

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    config = TrainConfig(
        12, learning_rate=0.02, warmup=1, accumulate=accumulate, checkpoint_every=4, ema=0.5
    )
    trainer = Trainer(net, losses, config, folder, Setting(group=group))
    return {name: value.clone() for name, value in trainer.run().state_dict().items()}


def difference(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def half_batches(monkeypatch, folder, stop_at=None):
    """gmm-paper in one process, each batch as two accumulated halves."""
    config = functools.partial(TrainConfig, accumulate=2, checkpoint_every=3)
    monkeypatch.setattr(maps, "TrainConfig", config)
    recipe = gmm_paper.RECIPE.shortened(STEPS / gmm_paper.RECIPE.map_steps)
    assert recipe.map_steps == STEPS

    def stop(step):
        if step == stop_at:
            raise InterruptedError

    save = Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda self: (save(self), stop(self.step)))
    try:
        half = replace(recipe, batch=recipe.batch // 2)
        return gmm_paper.train(half, folder, lambda *_: Setting())["map"].state_dict()
    finally:
        monkeypatch.undo()


def test_two_workers_are_one_process_with_two_shards(tmp_path, monkeypatch):
    """One start of Ray, one fit, everything about it: `bench train gmm-paper --workers 2`.

    The equality is tested on a regression of 12 large steps, stopped and resumed in between, and
    on the world itself, of which rank 0 finds a checkpoint of a single process to go on from.
    """
    work, name = tmp_path / "work", f"gmm-paper-seed0-shortened-{STEPS / 12000:g}"
    whole = half_batches(monkeypatch, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        half_batches(monkeypatch, work / name, stop_at=3)
    expected = regression(tmp_path / "alone", 2, Alone())

    heard, started = [], ray_train.train_together

    def with_regression(loop, workers, each, threads, hear):
        def both(group, device, tell):
            folder = tmp_path / f"rank-{group.rank}"
            try:
                regression(folder, 1, group, stop_at=7)
            except InterruptedError:
                tell({"rank": group.rank, "size": group.size})
            weights = regression(folder, 1, group)
            if group.rank == 0:
                tell(weights)
            loop(group, device, tell)

        def apart(note):
            (heard.append if isinstance(note, dict) else hear)(note)

        started(both, workers, each, threads, apart)

    monkeypatch.setattr(ray_train, "train_together", with_regression)
    unmeasured = replace(gmm_paper.WORLD, quality=lambda *_: {})
    monkeypatch.setattr(gmm_paper, "WORLD", unmeasured)
    arguments = ["train", "gmm-paper", "--shorten", str(STEPS / 12000), "--workers", "2"]
    arguments += ["--no-track", "--validate-every", "4", "--work", str(work), "--to", str(tmp_path)]
    with cluster(None, 2) as ray:
        # Workers cannot import a test module.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    *ranks, weights = heard
    assert sorted(one["rank"] for one in ranks) == [0, 1] and ranks[0]["size"] == 2
    assert difference(weights, expected) < 1e-5
    assert difference(weights, regression(tmp_path / "half", 1, Alone())) > 1e-3
    assert [len(list(tmp_path.glob(f"rank-{k}/step-*.pt"))) for k in (0, 1)] == [2, 0]

    got = load_file(tmp_path / "gmm-paper.safetensors")
    assert difference({f"map.{key}": value for key, value in whole.items()}, got) < 1e-5
    assert [row["step"] for row in Journal(work / name / "validation.jsonl").rows()] == [4, 6]
    assert "map 4/6" in result.output and "map 6/6: frechet-1" in result.output


class Second(HoldingAll):
    """The second of two workers, whose fellow has the same gradients and a checkpoint."""

    rank, size = 1, 2

    def __init__(self, state):
        self.state = state

    def average(self, tensors):
        pass

    def share(self, value):
        assert value is None
        return self.state


def test_only_rank_0_writes_and_all_resume_from_it(tmp_path):
    expected = regression(tmp_path / "alone", 1, Alone())
    state = torch.load(tmp_path / "alone" / "step-00000012.pt", weights_only=True)
    got = regression(tmp_path / "second", 1, Second(state))
    assert all(torch.equal(got[name], expected[name]) for name in got)
    other = regression(tmp_path / "second", 1, Second(None))
    assert difference(other, expected) > 1e-3  # rank 1 draws rows of its own
    assert not (tmp_path / "second").exists()


def test_what_a_worker_raised_is_told_in_a_sentence():
    class Group(Exception):
        def __init__(self, *failures):
            self.worker_failures = dict(enumerate(failures))

    told = ray_train._told
    nan = FloatingPointError("the loss is not finite at step 3")
    assert told(Group(nan)) is nan
    lost = told(Group(OSError("no space left")))
    assert isinstance(lost, UserError) and "worker 0 failed (OSError: no space" in str(lost)
    other = ValueError("of Ray's own")
    assert told(other) is other
    assert "worker 1 failed (OSError" in str(told(Group(WorkerGone(), OSError("gone"))))


def test_an_objective_that_knows_of_no_device_runs_on_one():
    """`meta` stands for a GPU: what is not moved to it cannot meet a network there."""
    torch.manual_seed(0)
    net = nn.Linear(3, 3).to("meta")
    data, scale = torch.randn(10, 3), torch.ones(4)

    def objective(generator):
        x = data[torch.randint(len(data), (4,), generator=generator)]
        noise = torch.randn(x.shape, generator=generator)
        target = torch.where(scale[:, None] > 0, x - noise, x)
        target += torch.ones(4, 3)
        return (torch.cat([net(noise), net(x)]) - torch.cat([target, target])).square().mean()

    with pytest.raises(RuntimeError):
        objective(torch.Generator().manual_seed(0)).backward()
    with Moving(torch.device("meta")):
        loss = objective(torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.device.type == "meta" and net.weight.grad.device.type == "meta"


def test_an_operation_in_place_stays_where_it_is():
    """Moving the tensor that is written to would lose what is written."""
    here, there = torch.zeros(3), torch.ones(3, device="meta")
    with Moving(torch.device("meta")):
        assert (here * there).device.type == "meta"
        with pytest.raises((RuntimeError, NotImplementedError)):
            here.add_(there)  # a meta tensor has nothing to copy; a GPU's is copied to the CPU


def test_random_numbers_do_not_depend_on_the_device():
    with on_device("cpu"):
        here = torch.randn(5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(here, torch.randn(5, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:99", "gpu"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(UserError, match=device):
        check_device(device)
    check_device("cpu", workers=64)
