"""Third-party packages: the example and a fresh `bench new` are installed, checked and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.api import Method, UserError
from bench.cli import new as verbs
from bench.conformance.check import conform
from bench.conformance.method_subject import MethodSubject
from bench.metrics.two_sample import sliced_w2
from bench.models.mixture import Mixture
from bench.plan.binding import bind
from methods.steering.mfm import MFMGradient
from reports.data.comparisons import best_baseline
from reports.data.entries import summarise
from reports.data.run import load_run

EXAMPLE = Path(__file__).parent.parent / "examples" / "plugin"


# -- installed packages ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A folder of installed plugins on the path of another process, and their sources."""

    folder: Path
    sources: Path

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    def bench(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "bench", *words)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The example, a new method, reward and task, installed by pip as their users would."""
    sources = tmp_path_factory.mktemp("sources")
    built = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(EXAMPLE, sources / "example", ignore=built)
    verbs.new("method", "fresh-method", sources / "method")
    verbs.new("reward", "fresh-reward", sources / "reward")
    verbs.new("task", "fresh-task", sources / "task")
    target = tmp_path_factory.mktemp("site")
    isolation = ["--no-build-isolation"] if find_spec("setuptools") else []
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *isolation]
    subprocess.run([*pip, "--target", target, *sorted(sources.iterdir())], check=True)
    return Site(target, sources)


def test_plugins_are_listed_beside_the_built_in_ones(site: Site) -> None:
    rows = json.loads(site.bench("list", "methods", "--json").stdout)
    found = {row["name"]: row for row in rows}
    assert found["noise-walk"]["distribution"] == "tiltbench-example"
    assert found["noise-walk"]["summary"].startswith("Metropolis walk")
    assert {"dps", "fresh-method", "mean-gradient"} <= found.keys()


def test_the_example_keeps_its_contracts(site: Site) -> None:
    for name in ("noise-walk", "mean-gradient"):
        done = site.bench("check", "method", name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " 0 failed" in done.stdout
    script = (
        "from bench.conformance.check import conform\n"
        "for f in conform('reward', 'ring') + conform('task', 'two-moons'): print(f.status, f)"
    )
    lines = site.python("-c", script).stdout.splitlines()
    assert sum(line.startswith("pass") for line in lines) >= 20
    assert not [line for line in lines if line.startswith("fail")]


def test_a_new_package_passes_its_own_tests(site: Site) -> None:
    folders = [str(site.sources / kind / "tests") for kind in ("method", "reward", "task")]
    done = site.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_method_reward_and_task_of_a_third_party_run_together(site: Site, tmp_path: Path) -> None:
    plan = [
        "-t",
        "two-moons",
        "-r",
        "ring",
        "-b",
        "paper-nfe=210",
        "--seeds",
        "1",
        "--set",
        "n=128",
    ]
    methods = [word for m in ("prior", "noise-walk", "dps", "oracle") for word in ("-m", m)]
    where = ["--executor", "inline", "--no-track", "--root", str(tmp_path), "--name", "moons"]
    done = site.bench("run", *plan, *methods, *where, "--set", "n=128", "--no-baselines")
    assert done.returncode == 0, done.stdout + done.stderr

    cells = pd.read_parquet(tmp_path / "moons" / "cells.parquet").set_index("method")
    assert cells.status.to_dict() == {
        "prior": "ok",
        "noise-walk": "ok",
        "dps": "ok",
        "oracle": "skipped",
    }
    assert json.loads(cells.matched["noise-walk"]) == {"moves": 9, "steps": 20}
    assert cells.predicted_equal[["prior", "noise-walk", "dps"]].all()
    assert cells.utilisation["noise-walk"] == pytest.approx(1.0)

    results = pd.read_parquet(tmp_path / "moons" / "results.parquet")
    value = results.set_index(["method", "metric"]).value
    error = results.set_index(["method", "metric"]).standard_error
    gain = value["noise-walk", "reward"] - value["prior", "reward"]
    assert gain > 3 * np.hypot(error["noise-walk", "reward"], error["prior", "reward"])
    assert value["noise-walk", "diversity"] > 0.5


SUMMARY = "follows the mean reward of posterior draws, not its log-mean-exp"


def test_the_record_says_what_a_plugin_declares(site: Site, tmp_path: Path) -> None:
    """A method of a few lines on the steering loop is a baseline, with its summary."""
    suite = "-t gmm-paper -r quadratic -b paper-nfe=100 --seeds 2 --set n=64 --no-baselines"
    methods = "-m prior -m mfm-g -m mean-gradient"
    where = ["--executor", "inline", "--no-track", "--root", str(tmp_path), "--name", "means"]
    done = site.bench("run", *suite.split(), *methods.split(), *where)
    assert done.returncode == 0, done.stdout + done.stderr

    cells = pd.read_parquet(tmp_path / "means" / "cells.parquet").set_index("method")
    assert (cells.status == "ok").all()
    assert set(cells.method_summary["mean-gradient"]) == {SUMMARY}
    standing = cells.method_standing.groupby("method").first().to_dict()
    assert standing == {"prior": "reference", "mfm-g": "method", "mean-gradient": "baseline"}
    assert set(cells.paper_nfe["mean-gradient"]) == set(cells.paper_nfe["mfm-g"]) == {100.0}

    assert SUMMARY in (tmp_path / "means" / "report.html").read_text()
    run = load_run(tmp_path / "means")
    entries = list(summarise(run.cells, run.metrics).entries)
    chosen = best_baseline("reward", "higher")(entries)
    assert chosen is not None and chosen.method == "mean-gradient"


def test_nothing_of_ours_names_the_example() -> None:
    root = EXAMPLE.parent.parent
    packages = ("bench", "methods", "rewards", "sweeps", "reports")
    files = [f for package in packages for f in (root / package).rglob("*") if f.is_file()]
    texts = [f.read_text() for f in files if f.suffix in (".py", ".yaml", ".html", ".md")]
    assert texts and not [t for t in texts if "mean-gradient" in t or "MeanGradient" in t]


# -- the example's mathematics --------------------------------------------------------------------


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))


@pytest.mark.usefixtures("example")
def test_the_own_flow_is_the_velocity_of_the_smoothed_points() -> None:
    from tiltbench_example.two_moons import OwnFlow, moons

    points, width = moons(6).double(), 0.3
    covariances = width**2 * torch.eye(2, dtype=torch.float64).expand(6, 2, 2)
    mixture = Mixture(torch.ones(6, dtype=torch.float64), points, covariances)
    x, t = torch.randn(50, 2, dtype=torch.float64), torch.linspace(0, 1, 50, dtype=torch.float64)
    torch.testing.assert_close(OwnFlow(points, width).velocity(x, t), mixture.velocity(x, t))


@pytest.mark.usefixtures("example")
def test_the_mean_gradient_is_mfm_g_for_a_single_draw_alone() -> None:
    from tiltbench_example.mean_gradient import MeanGradient

    bound = bind("gmm-paper", "quadratic")

    def sampled(method: type[Method[Any]], draws: int) -> torch.Tensor:
        subject = MethodSubject("mean", method.create(draws=draws, steps=6), bound)
        problem = subject.problem(subject.cell()).for_rows(range(32))
        return subject.method.sample(problem, 32).x

    assert torch.equal(sampled(MeanGradient, 1), sampled(MFMGradient, 1))
    assert not torch.allclose(sampled(MeanGradient, 4), sampled(MFMGradient, 4), atol=1e-2)


@pytest.mark.usefixtures("example")
def test_the_noise_walk_tends_to_the_tilted_law() -> None:
    from tiltbench_example.noise_walk import NoiseWalk

    bound = bind("gmm:dimension=2", "quadratic:curvature=0.5")

    def distance(moves: int) -> float:
        subject = MethodSubject("walk", NoiseWalk.create(moves=moves, steps=15), bound)
        problem = subject.problem(subject.cell()).for_rows(range(1024))
        exact = bound.task.reference(bound.reward, 1.0, None, 1024, 7)
        assert exact is not None
        return sliced_w2(subject.method.sample(problem, 1024).x, exact.x)

    start, end = distance(1), distance(150)
    assert end < 0.25 * start


# -- the command line -----------------------------------------------------------------------------


def test_a_failed_check_says_why_and_exits_with_1(tmp_path: Path) -> None:
    source = """
from bench.api import Method, NoParams, Samples, forward
class Broken(Method[NoParams]):
    def work(self, spec): return forward("flow", 2)
    def sample(self, problem, n): return Samples(problem.x0())
"""
    (tmp_path / "broken.py").write_text(source)
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.methods]\nbroken = broken:Broken\n")
    done = Site(tmp_path, tmp_path).bench(
        "check", "method", "broken", "-t", "gmm:dimension=2", "--json"
    )
    assert done.returncode == 1
    reasons = {f["check"]: f["reason"] for f in json.loads(done.stdout) if f["status"] == "fail"}
    wanted = "predicted 2 flow forward rows per sample, measured 0"
    assert reasons == {"predicted work": wanted, "needs": wanted}


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("metric", "x", "cannot write a new 'metric'"),
        ("method", "dps", "there is a method 'dps' already"),
        ("method", "My Method", "is not a name"),
        ("reward", "nice", "is not empty"),
    ],
)
def test_bad_input_of_new_is_one_sentence(tmp_path: Path, kind: str, name: str, says: str) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match=says):
        verbs.new(kind, name, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'oracle'"):
        conform("method", "oracel")
    with pytest.raises(UserError, match="did you mean 'method'"):
        conform("methods", "dps")
