"""The runner: resume, kill, equal results whatever runs the cells, bad input, audits."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.core import atomic
from bench.core.map_posterior import MapPosterior
from bench.core.params import UserError
from bench.plan.expand import expand
from bench.plan.suite import build_suite, load_suite, shipped
from bench.record.store import Store, open_run
from bench.runner.audit import audit
from bench.runner.executors.inline import Inline
from bench.runner.run import pilots_of, run_suite

CONTENT = {
    "name": "small",
    "seeds": 2,
    "n": 64,
    "budgets": ["paper-nfe=60"],
    "blocks": [
        {
            "tasks": ["gmm-paper"],
            "rewards": ["inverse"],
            "methods": ["prior", "exact", "oracle", "dps", "mfm-gf", "best-of-n-fewstep"],
        },
        {"tasks": ["digits"], "rewards": ["template"], "methods": ["prior", "mfm-g", "oracle"]},
    ],
}
VOLATILE = [
    "seconds",
    "cell_seconds",
    "warmup_seconds",
    "fit_seconds_total",
    "joules",
    "peak_bytes",
    "finished",
    "attempt",
    "drift",
]


class Silent:
    def begin(self, total, workers):
        self.total = total

    def finished(self, row, payload):
        pass


def run_inline(root, content=CONTENT, **options):
    suite = build_suite(content)
    store = Store(str(root), suite.name)
    return store, run_suite(suite, store, Inline, Silent(), **options)


def deterministic(store) -> dict[str, pd.DataFrame]:
    """The tables without what time and machine decide."""
    return {
        name: store.table(name).drop(columns=VOLATILE, errors="ignore")
        for name in ("cells", "metrics", "samples", "results")
    }


def assert_same_tables(first, second):
    for name, table in deterministic(first).items():
        pd.testing.assert_frame_equal(table, deterministic(second)[name])


def test_second_run_does_nothing(tmp_path):
    store, first = run_inline(tmp_path)
    assert first.executed == 16 and first.statuses == {"ok": 16, "skipped": 2}
    _, again = run_inline(tmp_path)
    assert again.executed == 0 and again.cached == 16
    cells = store.table("cells")
    assert cells.predicted_equal.dropna().all()
    assert cells[cells.status == "skipped"].reason.str.contains("closed-form").all()
    results = store.table("results")
    assert {"task", "reward", "method", "budget", "seed", "status", "metric", "value"} <= set(
        results.columns
    )


def test_growing_a_suite_runs_only_the_difference(tmp_path):
    run_inline(tmp_path)
    _, more = run_inline(tmp_path, {**CONTENT, "seeds": 3})
    assert more.executed == 8 and more.cached == 16


def test_a_new_metric_samples_nothing_again(tmp_path, monkeypatch):
    store, _ = run_inline(tmp_path)
    from bench.metrics.reward import MeanReward

    monkeypatch.setattr(MeanReward, "version", "2")
    _, again = run_inline(tmp_path)
    assert again.executed == 0 and again.remeasured == 16
    versions = store.table("metrics").query("metric == 'reward'").version
    assert (versions == "2").sum() == 16


def command(root, *extra):
    return [
        sys.executable,
        "-m",
        "bench",
        "run",
        str(Path(root) / "suite.yaml"),
        "--root",
        str(root),
        "--no-track",
        *extra,
    ]


def write_suite(root, content):
    (Path(root) / "suite.yaml").write_text(json.dumps(content))


SLOWER = {**CONTENT, "budgets": ["paper-nfe=200"], "n": 256}


def test_killed_driver_continues_and_ends_the_same(tmp_path):
    """kill -9 in the middle; nothing finished is run again and all tables agree."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for root in (killed, whole):
        root.mkdir()
        write_suite(root, SLOWER)
    process = subprocess.Popen(
        command(killed, "--executor", "inline"),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while len(list(killed.glob("small/cells/*/attempts/*/result.json"))) < 5:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {p: p.stat().st_mtime_ns for p in killed.glob("small/cells/*/attempts/*/result.json")}
    assert 5 <= len(done) < 16
    for root in (killed, whole):
        subprocess.run(command(root, "--executor", "inline"), check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert_same_tables(Store(str(killed), "small"), Store(str(whole), "small"))


def test_one_worker_two_workers_and_inline_agree(tmp_path):
    stores = []
    for name, extra in (
        ("inline", ["--executor", "inline"]),
        ("one", ["--workers", "1"]),
        ("two", ["--workers", "2"]),
    ):
        root = tmp_path / name
        root.mkdir()
        write_suite(root, CONTENT)
        subprocess.run(command(root, *extra), check=True, capture_output=True, timeout=300)
        stores.append(Store(str(root), "small"))
    assert_same_tables(stores[0], stores[1])
    assert_same_tables(stores[0], stores[2])


def bench(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], capture_output=True, text=True, **options
    )


BASE = ["-t", "gmm-paper", "-r", "inverse", "-m", "dps", "-b", "paper-nfe=100"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-t", "digit", "-r", "template", "-m", "dps"], "did you mean 'digits'"),
        (["-t", "digits", "-r", "templat", "-m", "dps"], "did you mean 'template'"),
        (["-t", "digits", "-r", "template", "-m", "dpz"], "did you mean 'dps'"),
        ([*BASE[:-4], "-m", "dps:scal=exact"], "did you mean 'scale'"),
        ([*BASE[:-4], "-m", "dps:scale=big"], "must be one of exact, rescale, clip"),
        ([*BASE[:-4], "-m", "dps:steps=0"], "must be at least 5"),
        ([*BASE, "--set", "sead=3"], "unknown suite key 'sead'"),
        ([*BASE, "--seeds", "0"], "at least 1 seed is needed"),
        (["-t", "digits", "-m", "dps"], "-r must be given too"),
        ([*BASE[:-2], "-b", "nfe=100"], "write unit=amount"),
        ([*BASE[:-2], "-b", "paper-nfe=-3"], "must be positive"),
        (["no-such-suite"], "no suite or file"),
        ([*BASE, "--executor", "slurm"], "must be ray or inline"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, says):
    done = (
        bench("run", *arguments, "--root", str(tmp_path), "--executor", "inline")
        if ("--executor" not in arguments)
        else bench("run", *arguments, "--root", str(tmp_path))
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_budget_below_the_minimum_is_infeasible_with_the_amount(tmp_path):
    (row,) = expand(
        build_suite(
            {
                "name": "t",
                "tasks": ["gmm-paper"],
                "rewards": ["inverse"],
                "methods": ["mfm-g"],
                "budgets": ["paper-nfe=10"],
                "seeds": 1,
            }
        )
    )
    assert row.status == "infeasible" and "needs at least 25 paper-nfe" in row.reason


def test_missing_and_truncated_weights(tmp_path):
    weights = tmp_path / "w"
    weights.mkdir()
    (weights / "digits.safetensors").write_bytes(b"12345")
    environment = {**os.environ, "TILTBENCH_WEIGHTS": str(weights)}
    done = bench(
        "run",
        "-t",
        "digits",
        "-r",
        "template",
        "-m",
        "prior:steps=2",
        "-b",
        "none",
        "--seeds",
        "1",
        "--executor",
        "inline",
        "--no-track",
        "--root",
        str(tmp_path),
        "--set",
        "n=16",
        env=environment,
    )
    assert done.returncode == 1 and "cannot be read" in done.stderr
    from bench.models import weights as module

    with pytest.raises(UserError, match="run 'bench train nothing'"):
        module.find("nothing")


def test_unwritable_root(tmp_path):
    (tmp_path / "file").write_text("x")
    done = bench("run", *BASE, "--root", str(tmp_path / "file"), "--executor", "inline")
    assert done.returncode == 2 and "cannot write to the run folder" in done.stderr


def test_failed_cells_are_kept_and_retried_only_when_asked(tmp_path, monkeypatch):
    from methods.reference import Prior

    content = {**CONTENT, "blocks": CONTENT["blocks"][:1], "seeds": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Prior, "sample", lambda *_: 1 / 0)
        store, first = run_inline(tmp_path, content)
        assert first.statuses["failed"] == 1 and first.failed == 1
        _, again = run_inline(tmp_path, content)
        assert again.executed == 0
    row = store.table("results").query("method == 'prior'").iloc[0]
    assert row.status == "failed" and "ZeroDivisionError" in row.reason and pd.isna(row.metric)
    _, retried = run_inline(tmp_path, content, retry_failed=True)
    assert retried.executed == 1 and retried.failed == 0


class _Leaky(MapPosterior):
    """Draws, and computes something on the side that nobody counts."""

    def draw(self, x, t, n, noise, condition=None):
        torch.randn(256, 256) @ torch.randn(256, 256)
        return super().draw(x, t, n, noise, condition)


def test_baselines_appear_at_every_budget_unless_refused():
    content = {"name": "t", "tasks": ["gmm-paper"], "rewards": ["linear"], "methods": ["dps"]}
    content |= {"budgets": ["paper-nfe=100", "none"], "seeds": 1, "baselines": True}
    rows = expand(build_suite(content))
    at_budget = [row.cell.method for row in rows if row.budget is not None]
    assert at_budget == ["dps", "prior", "best-of-n", "best-of-n-fewstep"]
    assert [row.cell.method for row in rows if row.budget is None] == ["dps"]
    assert len(expand(build_suite({**content, "baselines": False}))) == 2


def test_audit_agrees_and_catches_a_wrong_prediction(tmp_path, monkeypatch):
    store, _ = run_inline(tmp_path)
    plan = expand(build_suite(CONTENT))
    findings = audit(store, plan, flops=True)
    assert len(findings) == 8 and all(f.ok for f in findings)
    assert all(abs(f.flop_error or 0) <= 0.01 for f in findings)
    wrong = [replace(r, predicted=r.predicted * 0.5) if r.cell.method == "dps" else r for r in plan]
    assert {f.method for f in audit(store, wrong, flops=False) if not f.ok} == {"dps"}
    # Work that goes round the meter on a method that looks honest: only the counter can see it.
    monkeypatch.setattr("bench.loops.posteriors.MapPosterior", _Leaky)
    caught = audit(store, [r for r in plan if r.cell.method == "mfm-gf"], flops=True)
    assert caught and not any(f.ok for f in caught)


def test_flop_and_seconds_budgets_are_matched_and_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.runner.pilots.ROUNDS", 1)  # hurried: no seconds are asserted
    content = {
        "name": "units",
        "tasks": ["digits"],
        "rewards": ["template"],
        "n": 64,
        "seeds": 1,
        "methods": ["dps", "best-of-n-fewstep"],
        "budgets": ["flops=1e8", "seconds=0.004"],
    }
    store, outcome = run_inline(tmp_path, content)
    assert outcome.statuses == {"ok": 4}
    cells = store.table("cells")
    by_flops = cells[cells.budget_unit == "flops"]
    assert by_flops.utilisation.between(0.9, 1.01).all()
    assert (by_flops.drift.abs() < 0.02).all()
    _, again = run_inline(tmp_path, content)
    assert again.executed == 0
    again_plan = expand(build_suite(content), pilots_of(open_run(store.path)))
    assert [row.matched for row in again_plan] == [json.loads(m) for m in cells.matched]


def test_every_shipped_suite_can_be_planned():
    # Those of ImageNet read other people's weights: tests/tasks/test_paper_imagenet.py plans them.
    for name in (name for name in shipped() if not name.startswith("paper-imagenet")):
        content = load_suite(name)
        assert content["name"] == name and content["description"]
        rows = expand(build_suite(content))
        assert rows and not any(row.status == "infeasible" for row in rows)


def test_a_disk_that_fills_up_loses_nothing(tmp_path, monkeypatch):
    """The run stops with one sentence; finished cells are kept and the rest runs later."""
    plain, written = atomic.write, []

    def full(path, data):
        written.append(path)
        if len(written) > 25:
            raise OSError(28, "No space left on device")
        plain(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", full)
        with pytest.raises(UserError, match="No space left on device"):
            run_inline(tmp_path)
    kept = len(list(tmp_path.glob("small/cells/*/attempts/*/result.json")))
    _, outcome = run_inline(tmp_path)
    assert 0 < kept < 16 and outcome.executed == 16 - kept
