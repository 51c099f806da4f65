"""Training is a function of its seed: killed or watched, it ends in the same bits."""

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
from bench.training import recipes
from bench.training.trainer import Setting, TrainConfig, Trainer, step_generator
from bench.training.validation import Journal, Validation
from tests.worlds.small_training import small

# A training of gmm-paper as a program of its own, so that it can be killed.
PROGRAM = """
import functools, sys
from dataclasses import replace
from pathlib import Path
import torch
from bench.training import recipes, worlds
from bench.training.trainer import Setting
from bench.training.validation import Journal, Validation

def train(folder):
    torch.set_num_threads(1)
    plain, train_world = worlds.WORLDS["gmm-paper"]
    recipe = replace(plain.shortened(0.0125), batch=64)
    recipes.TrainConfig = functools.partial(recipes.TrainConfig, checkpoint_every=10)
    measure = lambda net: {"norm": sum(float(p.norm()) for p in net.parameters())}
    journal = Journal(folder / "validation.jsonl")
    validation = Validation("map", 8, measure, journal, lambda *_: None)
    stage = lambda name, steps: Setting(validation=validation)
    return train_world(recipe, folder, stage)["map"]
"""


def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_bits(tmp_path, monkeypatch):
    """SIGKILL, of which a process knows nothing; weights and journal are as if it had not been."""
    program: dict = {}
    exec(PROGRAM, program)
    monkeypatch.setattr(recipes, "TrainConfig", TrainConfig)  # undone after the test
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = program["train"](tmp_path / "whole").state_dict()
    monkeypatch.setattr(recipes, "TrainConfig", TrainConfig)

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
        net = recipes.train_map(
            lambda n, g: mixture.sample(n, g),
            mixture.sample(500, torch.Generator().manual_seed(0)),
            mixture.velocity,
            small(map_steps=30),
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
    due = [step for step in range(36) if watch.due(step, 35)]
    assert due == [30, 35]  # 10 and 20 are there already, 35 is the last step


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
