"""Shards of a cell: killed at any of them and gone on with, it is what one run gives."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import replace

import pytest
import torch

from bench.core.metering import Meter
from bench.core.params import UserError
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.files import RunFiles
from bench.record.store import Store
from bench.runner.cell import Job, sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.measuring import unpack_samples
from bench.runner.problems import make_problem
from bench.runner.run import run_suite
from bench.runner.shards import Shards
from tests.runner.test_resume import Silent, assert_same_tables, command, run_inline, write_suite

CONTENT = {
    "name": "small",
    "tasks": ["digits"],
    "rewards": ["template"],
    "methods": ["dps"],
    "budgets": ["paper-nfe=40"],
    "seeds": 1,
    "n": 2000,
    "batch": 100,
}
"""2,000 pictures in 20 shards, with the Frechet distance of their features among the metrics."""


def shards_of(root):
    return sorted(root.glob("small/work/*/*.shard"))


@pytest.mark.parametrize(
    ("seed", "content"),
    [
        (0, CONTENT),
        pytest.param(1, CONTENT, marks=pytest.mark.slow),
        pytest.param(2, CONTENT | {"methods": ["fk:particles=4"]}, marks=pytest.mark.slow),
    ],
)
def test_killed_at_a_random_shard_it_equals_the_one_pass_value(tmp_path, seed, content):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for root in (killed, whole):
        root.mkdir()
        write_suite(root, content)
    last = random.Random(seed).randrange(2, 18)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(killed, "--executor", "inline"), **quiet)
    while len(shards_of(killed)) < last:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in shards_of(killed)}
    assert kept
    one, _ = run_inline(whole, content)
    suite = build_suite(content)
    store = Store(str(killed), suite.name)
    made = []
    run_suite(suite, store, lambda: _Noting(killed, kept, made), Silent())
    assert made and all(stamp == kept[path] for path, stamp in made), "kept shards are made again"
    assert_same_tables(one, store)
    values = [
        s.table("metrics").query("metric == 'frechet'").set_index("cell").value
        for s in (one, store)
    ]
    assert len(values[0]) == 1 and values[0].notna().all()
    assert (values[0] - values[1]).abs().max() < 1e-9
    assert not shards_of(killed), "a stored cell needs its shards no more"
    assert store.table("cells").predicted_equal.all()


class _Noting:
    """Runs jobs here, and notes the times of the shards of each before they are removed."""

    workers = 1

    def __init__(self, root, kept, made):
        self.root, self.kept, self.made = root, kept, made

    def run(self, jobs, sink):
        for job in jobs:
            attempt = job.run()
            stamps = {p: p.stat().st_mtime_ns for p in shards_of(self.root)}
            self.made += [(p, stamps[p]) for p in self.kept if p in stamps]
            sink(attempt)


def sharded(tmp_path, method="das:particles=4", n=48, batch=16):
    content = {**CONTENT, "tasks": ["gmm-paper"], "rewards": ["quadratic"], "methods": [method]}
    (row,) = expand(build_suite({**content, "n": n, "batch": batch}))
    return row, Shards(RunFiles(str(tmp_path), "run"), row.id)


def sampled(cell, shards, limit=None):
    instances, meter, logged = instances_of(cell), Meter(limit, count_flops=True), []
    problem = make_problem(cell, instances, meter, range(cell.n))
    problem.on_log = lambda step, scalars: logged.append((step, scalars))
    samples = sample_in_batches(instances.method, problem, cell, shards)
    return samples, meter.work(), logged


@pytest.mark.parametrize("method", ["das:particles=4", "best-of-n", "dps"])
def test_kept_shards_give_samples_ledger_and_curve_again(tmp_path, method):
    row, shards = sharded(tmp_path, method)
    plain = sampled(row.cell, None)
    first, again = sampled(row.cell, shards), sampled(row.cell, shards)
    for samples, work, logged in (first, again):
        assert torch.equal(samples.x, plain[0].x) and samples.info == plain[0].info
        assert samples.log_z == plain[0].log_z
        for name in ("log_weight", "group"):
            one, other = getattr(samples, name), getattr(plain[0], name)
            assert (one is None) == (other is None) and (one is None or torch.equal(one, other))
        assert work.vector == plain[1].vector and work.flops == pytest.approx(plain[1].flops)
        assert logged == plain[2]
    # Seconds are those of whoever made the shards, not of reading them.
    assert again[1].seconds == pytest.approx(first[1].seconds, rel=0.5)


@pytest.mark.parametrize("harm", ["damage", "truncate", "budget"])
def test_a_shard_that_cannot_be_believed_is_made_again(tmp_path, harm):
    row, shards = sharded(tmp_path, "dps")
    plain, _, _ = sampled(row.cell, shards)
    path = sorted(tmp_path.glob("run/work/*/*.shard"))[1]
    data = path.read_bytes()
    if harm == "damage":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "truncate":
        path.write_bytes(data[: len(data) // 2])
    else:
        shards = replace(shards, made_by=("another budget",))
    again, work, _ = sampled(row.cell, shards)
    assert torch.equal(plain.x, again.x) and work.same_rows(row.predicted * row.cell.n)
    mended = path.stat().st_mtime_ns
    sampled(row.cell, shards)
    assert path.stat().st_mtime_ns == mended, "what was made again is kept"


def test_the_budget_is_enforced_across_shards(tmp_path):
    """Kept work counts: who goes on has what is left of the budget, not all of it again."""
    from bench.core.metering import OverBudget

    row, shards = sharded(tmp_path, "dps")
    _, work, _ = sampled(row.cell, shards)
    sorted(tmp_path.glob("run/work/*/*.shard"))[-1].unlink()
    with pytest.raises(OverBudget):
        sampled(row.cell, shards, limit=0.9 * work.cost("paper-nfe"))


def test_where_nothing_can_be_written_the_samples_are_as_good(tmp_path, monkeypatch):
    row, shards = sharded(tmp_path, "dps")

    def full(*_):
        raise UserError("cannot write: free space")

    monkeypatch.setattr(RunFiles, "write", full)
    assert torch.equal(sampled(row.cell, shards)[0].x, sampled(row.cell, None)[0].x)


def test_a_cell_of_one_batch_writes_no_shard(tmp_path):
    row, shards = sharded(tmp_path, "dps", n=16)
    attempt = Job(row.cell, row.limit, shards=shards).run()
    assert attempt.ok and len(unpack_samples(attempt.samples)) == 16
    assert not list(tmp_path.rglob("*.shard"))
