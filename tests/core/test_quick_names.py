"""Names that say where a class is; clashes and broken plugins are told and break nothing."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.conformance.check import conform
from bench.core import plugins, quick_names
from bench.core.params import UserError, format_name, parse_name
from bench.plan.expand import expand
from bench.plan.suite import build_suite

SOURCE = '''
from dataclasses import dataclass
from bench.api import Method, NoParams, Reward, Samples, Task, euler, forward, integrate, param
import near_by

@dataclass(frozen=True)
class Params:
    steps: int = param(4, low=1, high=10)

class Mine(Method[Params]):
    """Euler steps, and nothing else."""
    Params = Params
    def work(self, spec):
        return forward("flow", spec.calls(spec.grid(self.params.steps)[:-1]))
    def sample(self, problem, n):
        grid = problem.grid(self.params.steps)
        x0 = problem.started(problem.x0(), grid)
        return Samples(integrate(euler(problem.flow.velocity), x0, grid))

class Low(Reward[NoParams]):
    """Points near the origin."""
    def __call__(self, x, condition):
        return -near_by.SHARP * x.square().flatten(1).sum(1)

def score(x, prompts):
    return x.sum(1)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of plugins, as the working folder; what was loaded is forgotten."""
    (tmp_path / "mine_of_test.py").write_text(SOURCE)
    (tmp_path / "near_by.py").write_text("SHARP = 2.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_LOCAL", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mine_of_test", "near_by"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("mine_of_test", "near_by"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a/b.py:Mine", ("a/b.py:Mine", {})),
        ("a/b.py:Mine:steps=3,on=true", ("a/b.py:Mine", {"steps": 3, "on": True})),
        ("package.module:Mine@tuned:steps=3", ("package.module:Mine@tuned", {"steps": 3})),
        ("dps:steps=3", ("dps", {"steps": 3})),
        (
            "callable:function=m:f,gradient=true",
            ("callable", {"function": "m:f", "gradient": True}),
        ),
    ],
)
def test_a_name_may_say_where_its_class_is(text, read):
    assert parse_name(text) == read
    assert parse_name(format_name(*read)) == read


def suite(**changes):
    content = {
        "name": "q", "tasks": ["gmm:dimension=2"], "rewards": ["mine_of_test.py:Low:strength=2"],
        "methods": ["mine_of_test.py:Mine:steps=3", "prior"], "seeds": 1, "n": 8,
    }  # fmt: skip
    return build_suite(content | changes)


@pytest.mark.usefixtures("folder")
def test_files_and_modules_are_planned_as_installed_plugins_are():
    mine, prior = expand(suite())
    assert (mine.status, prior.status) == ("pending", "pending")
    assert mine.cell.method_params == {"steps": 3} and mine.cell.strength == 2.0
    same = expand(suite(methods=["mine_of_test:Mine"]))[0]
    assert same.cell.versions["method"] == mine.cell.versions["method"] != "1"


def test_a_session_that_lasts_loads_what_was_edited(folder):
    names = [("methods", "mine_of_test.py:Mine"), ("rewards", "mine_of_test.py:Low")]
    before = [plugins.load(*name) for name in names]
    plugins.renew()
    assert [plugins.load(*name) for name in names] == before
    versions = [plugins.version_of(*name) for name in names]
    (folder / "near_by.py").write_text("SHARP = 5.0  # edited\n")
    plugins.renew()
    after = [plugins.load(*name) for name in names]
    assert not {*after} & {*before}
    assert not {*versions} & {plugins.version_of(*name) for name in names}
    x = torch.ones(1, 2)
    assert float(after[1].create()(x, None)) == -10.0 and float(before[1].create()(x, None)) == -4.0


@pytest.mark.usefixtures("folder")
def test_a_file_is_checked_as_installed_plugins_are():
    found = conform("method", "mine_of_test.py:Mine", ["gmm:dimension=2"], ["linear"])
    assert not [f for f in found if f.status == "fail"]
    assert sum(f.status == "pass" for f in found) >= 5
    found = conform("reward", "mine_of_test.py:Low", ["gmm:dimension=2"])
    assert not [f for f in found if f.status == "fail"]


def test_a_helper_that_changes_makes_another_cell(folder):
    before = expand(suite())[0].cell
    plugins._LOCAL.clear()
    del sys.modules["mine_of_test"], sys.modules["near_by"]
    (folder / "near_by.py").write_text("SHARP = 3.00\n")
    after = expand(suite())[0].cell
    assert before.versions["reward"] != after.versions["reward"] and before.id != after.id


@pytest.mark.parametrize(
    ("group", "name", "says"),
    [
        ("methods", "not_there.py:Mine", "there is no file 'not_there.py'"),
        ("methods", "not_there:Mine", "there is no module 'not_there'"),
        ("methods", "mine_of_test.py:Mien", "has no 'Mien': did you mean 'Mine'"),
        ("methods", "mine_of_test.py:Low", "must be a subclass of bench.api.Method"),
        ("rewards", "mine_of_test.py:score", "callable:function=MODULE:NAME"),
        ("methods", "broken_of_test.py:Mine", "ZeroDivisionError"),
        ("methods", "json.py:Mine", "has the name of another module"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(folder, group, name, says):
    (folder / "broken_of_test.py").write_text("1 / 0\n")
    (folder / "json.py").write_text("")
    with pytest.raises(UserError, match=says):
        plugins.load(group, name)
    assert "broken_of_test" not in sys.modules


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_file_runs_from_the_command_line_on_every_executor(folder, executor):
    words = "run -t gmm:dimension=2 -r mine_of_test.py:Low -m mine_of_test.py:Mine -b none"
    where = f"--seeds 1 --set n=16 --no-track --executor {executor} --workers 1 --name q"
    root = str(Path(quick_names.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words.split(), *where.split()],
        env=environment, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    cells = pd.read_parquet(folder / "runs" / "q" / "cells.parquet")
    assert set(cells.status) == {"ok"} and set(cells.method) == {"mine_of_test.py:Mine"}


READS = """
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from bench.api import Reward, param

@dataclass(frozen=True)
class Params:
    path: str = param("", tunable=False, help="a file")

class Reads(Reward[Params]):
    Params = Params
    def weights(self):
        return {"file": sha256(Path(self.params.path).read_bytes()).hexdigest()}
    def __call__(self, x, condition):
        return float(Path(self.params.path).read_text()) * x.sum(1)
"""


@pytest.mark.parametrize("executor", ["inline", "process", "ray"])
def test_modules_and_paths_start_from_the_working_folder_on_every_executor(tmp_path, executor):
    """As the installed script starts, which leaves the folder out of what Python searches (-P)."""
    (tmp_path / "reads_of_test.py").write_text(READS)
    (tmp_path / "score_of_test.py").write_text("def score(x, prompts):\n    return x.sum(1)\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scale.txt").write_text("2.0")
    words = (
        "run -t gmm:dimension=2 -m prior:steps=2 -b none --seeds 1 --set n=16 --no-track --name q "
        f"-r reads_of_test.py:Reads:path=data/scale.txt --executor {executor} --workers 1 "
        "-r callable:function=score_of_test:score"
    )
    root = str(Path(quick_names.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench", *words.split()], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    cells = pd.read_parquet(tmp_path / "runs" / "q" / "cells.parquet")
    assert list(cells.status) == ["ok", "ok"]


# -- installed ones -------------------------------------------------------------------------------


class Owned(EntryPoint):
    """An entry point of a distribution that is not there."""

    def __new__(cls, *args):
        return super().__new__(cls)

    def __init__(self, name, value, owner):
        super().__init__(name, value, "bench.methods")
        vars(self)["dist"] = type("Dist", (), {"name": owner, "version": "3.1"})()


@pytest.fixture
def installed(monkeypatch):
    """Two packages that clash over one name, one whose module is missing, one that is well."""
    plugins._installed.cache_clear()
    found = [
        Owned("walk", "methods.reference:Prior", "first-package"),
        Owned("walk", "methods.reference:Exact", "second-package"),
        Owned("gone", "no_such_module_of_test:Gone", "third-package"),
        Owned("well", "methods.steering.dps:DPS", "fourth-package"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)
    yield
    plugins._installed.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_clash_names_both_packages_and_breaks_nothing_else():
    with pytest.raises(UserError, match=r"first-package .* and second-package .*; uninstall one"):
        plugins.load("methods", "walk")
    assert plugins.load("methods", "well").__name__ == "DPS"


@pytest.mark.usefixtures("installed")
def test_what_is_broken_is_listed_with_its_error(capsys):
    from bench.cli.listing import listing

    listing("methods", None, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["distribution"] for row in rows] == [
        "third-package", "first-package", "second-package", "fourth-package",
    ]  # fmt: skip
    errors = {row["distribution"]: row["error"] for row in rows}
    assert "no_such_module_of_test" in errors["third-package"] and not errors["fourth-package"]
    assert "second-package" in errors["first-package"] == errors["second-package"]
    listing("methods", None)
    shown = capsys.readouterr().out
    assert "broken: ModuleNotFoundError" in shown and "fourth-package 3.1" in shown
