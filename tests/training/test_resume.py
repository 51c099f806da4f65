"""Training is a function of its seed: killed or watched, it ends in the same bits."""

import math
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from bench.cli.train import Training
from bench.core.params import UserError
from bench.models.mixture import paper_mixture
from bench.training import maps
from bench.training.sources import unlabelled
from bench.training.trainer import Setting, TrainConfig, Trainer, step_generator
from bench.training.validation import Journal, Validation
from tests.worlds.small_training import small

# A training of gmm-paper as a program of its own, so that it can be killed.
PROGRAM = """
import functools, sys
from dataclasses import replace
from pathlib import Path
import torch
from bench.training import maps
from bench.training.trainer import Setting
from bench.training.validation import Journal, Validation
from bench.worlds import gmm_paper

def train(folder):
    torch.set_num_threads(1)
    recipe = replace(gmm_paper.RECIPE.shortened(0.0125), batch=64)
    maps.TrainConfig = functools.partial(maps.TrainConfig, checkpoint_every=10)
    measure = lambda net: {"norm": sum(float(p.norm()) for p in net.parameters())}
    journal = Journal(folder / "validation.jsonl")
    validation = Validation("map", 8, measure, journal, lambda *_: None)
    stage = lambda name, steps: Setting(validation=validation)
    return gmm_paper.train(recipe, folder, stage)["map"]
"""


def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_bits(tmp_path, monkeypatch):
    """SIGKILL, of which a process knows nothing; weights and journal are as if it had not been."""
    program: dict = {}
    exec(PROGRAM, program)
    monkeypatch.setattr(maps, "TrainConfig", TrainConfig)  # undone after the test
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = program["train"](tmp_path / "whole").state_dict()
    monkeypatch.setattr(maps, "TrainConfig", TrainConfig)

    folder = tmp_path / "killed"
    code = PROGRAM + "train(Path(sys.argv[1]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    first, wait = 10 * random.randint(1, 7), random.uniform(0, 0.1)  # truly any moment
    while child.poll() is None and last_step(folder) < first:
        time.sleep(0.005)
    time.sleep(wait)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    stopped = last_step(folder)
    assert 0 < stopped < 150

    resumed = program["train"](folder).state_dict()
    moment = f"killed {wait:.4f} s after step {first}, at checkpoint {stopped}"
    assert all(torch.equal(whole[name], resumed[name]) for name in whole), moment
    assert len(list((folder / "map").glob("step-*.pt"))) == 2
    figures = [
        [(row["stage"], row["step"], row["norm"]) for row in Journal(f / "validation.jsonl").rows()]
        for f in (tmp_path / "whole", folder)
    ]
    assert figures[0] == figures[1], moment
    assert [step for _, step, _ in figures[0]] == [*range(8, 151, 8), 150]


def last_step(folder) -> int:
    return max((int(f.stem[5:]) for f in (folder / "map").glob("step-*.pt")), default=0)


def test_validation_leaves_no_trace_in_the_weights(tmp_path):
    """Not even if what measures draws global random numbers and spoils the network it is handed."""
    mixture = paper_mixture(torch.float32)
    seen = []

    def spoil(net):
        torch.manual_seed(len(seen))
        assert not net.training and not torch.is_grad_enabled()
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        return {"figure": len(seen)}

    def trained(folder, validated):
        journal = Journal(folder.with_suffix(".jsonl"))
        journal.append({"stage": "map", "step": 8, "figure": -1.0})  # of weights that are gone
        watch = Validation("map", 4, spoil, journal, lambda *row: seen.append(row))
        torch.manual_seed(7)
        statistics = mixture.sample(500, torch.Generator().manual_seed(0))
        net = maps.train_map(
            unlabelled(mixture.sample, statistics),
            lambda _: mixture.velocity,
            small(map_steps=30),
            1,
            folder,
            Setting(validation=watch if validated else None),
        )
        return {**net.state_dict(), "global": torch.random.get_rng_state()}

    plain, watched = trained(tmp_path / "plain", False), trained(tmp_path / "watched", True)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert [step for step, _ in seen] == [4, 8, 12, 16, 20, 24, 28, 30]
    rows = Journal(tmp_path / "watched.jsonl").rows()
    assert [row["figure"] for row in rows] == list(range(8))


def test_a_journal_has_whole_lines_and_forgets_what_training_forgot(tmp_path):
    journal = Journal(tmp_path / "validation.jsonl")
    assert journal.rows() == []
    rows = [{"stage": stage, "step": step} for stage in ("flow", "map") for step in (10, 20, 30)]
    for row in rows:
        journal.append(row)
    with journal.path.open("a") as file:
        file.write('{"stage": "map", "st')
    assert journal.rows() == rows
    watch = Validation("map", 10, lambda net: {}, journal, lambda *_: None)
    watch.resume(20)
    assert journal.rows() == rows[:-1]
    assert journal.path.read_text().endswith("\n")
    planned = [step for step in range(36) if watch.planned(step, 35)]
    assert planned == [10, 20, 30, 35]  # 35 is the last step
    assert [step for step in planned if watch.has(step)] == [10, 20]


def test_every_seed_step_and_shard_has_random_numbers_of_its_own():
    """torch drops the upper half of a 64-bit seed, so these must differ in the lower."""
    keys = [(seed, step, shard) for seed in (0, 1, 2) for step in (0, 1, 9) for shard in (0, 1)]
    draws = {tuple(torch.rand(4, generator=step_generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_a_folder_belongs_to_one_recipe(tmp_path):
    Training("gmm-paper", small(), tmp_path, 0).claim(1)
    Training("gmm-paper", small(), tmp_path, 0).claim(2)  # the workers may change
    with pytest.raises(UserError, match=r"another recipe \(map_steps differ\)"):
        Training("gmm-paper", small(map_steps=31), tmp_path, 0).claim(1)
    with pytest.raises(UserError, match="3 workers cannot share a batch of 32"):
        Training("gmm-paper", small(), tmp_path, 0).claim(3)


def test_accumulation_adds_up(tmp_path):
    """Two half batches and one whole batch take the same first step."""
    torch.manual_seed(0)
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    ends = []
    for accumulate in (1, 2):
        torch.manual_seed(1)
        net = nn.Linear(3, 1)
        calls = iter(range(99))

        def objective(model, average, generator, k=accumulate, calls=calls):
            part = next(calls) % k
            rows = slice(part * 8 // k, (part + 1) * 8 // k)
            return {"mse": (model(x[rows]) - y[rows]).square().mean()}

        config = TrainConfig(3, accumulate=accumulate, warmup=1, clip=1e9)
        Trainer(net, objective, config, tmp_path / str(accumulate)).run()
        ends.append(net.weight.detach().clone())
    assert torch.allclose(ends[0], ends[1], atol=1e-6)


def regression(folder, steps=12, net=None, **changes):
    """A trainer of a small network with running statistics, and the weights that it passed."""
    seen = []

    def objective(model, average, generator):
        seen.append([p.detach().clone() for p in model.parameters()])
        return {"mse": (model(torch.randn(8, 3, generator=generator)) - 1).square().mean()}

    torch.manual_seed(0)
    net = net or nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return Trainer(net, objective, TrainConfig(steps, warmup=4, **changes), folder), seen


def test_the_average_is_the_ramped_one_under_the_model_s_own_names(tmp_path):
    """mean <- d mean + (1 - d) value, d = min(ema, (1 + k) / (10 + k)) after step k."""
    trainer, seen = regression(tmp_path, ema=0.4)
    average = trainer.run()
    values = [*seen[1:], list(trainer.model.parameters())]
    means = seen[0]
    for k, value in enumerate(values):
        d = min(0.4, (1 + k) / (10 + k))
        means = [d * mean + (1 - d) * v for mean, v in zip(means, value, strict=True)]
    for mean, ours in zip(means, average.parameters(), strict=True):
        torch.testing.assert_close(ours, mean)
    assert average.state_dict().keys() == trainer.model.state_dict().keys()
    for mine, its in zip(average.buffers(), trainer.model.buffers(), strict=True):
        assert torch.equal(mine, its)  # running statistics are those of the model, not of its birth


def test_the_rate_rises_linearly_and_falls_as_a_cosine(tmp_path):
    trainer, _ = regression(tmp_path, learning_rate=0.3)
    rates = []
    update = trainer.optimizer.step

    def step():
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        update()

    trainer.optimizer.step = step
    trainer.run()
    expected = [0.3 * min(1, (k + 1) / 4) * (1 + math.cos(math.pi * k / 12)) / 2 for k in range(12)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_checkpoint_of_another_version_is_refused_and_not_half_loaded(tmp_path):
    trainer, _ = regression(tmp_path)
    trainer.run()
    (file,) = tmp_path.glob("step-*.pt")
    state = torch.load(file, weights_only=True)
    state["average"] = {k.removeprefix("module."): v for k, v in state["average"].items()}
    del state["schedule"]
    torch.save(state, file)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=f"checkpoints in {tmp_path} are of another version"):
        regression(tmp_path, net=net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_what_a_killed_write_left_is_cleared_away(tmp_path):
    (tmp_path / "step-00000004.pt.77.partial").write_bytes(b"half")
    regression(tmp_path)[0].run()
    assert [file.name for file in tmp_path.iterdir()] == ["step-00000012.pt"]
