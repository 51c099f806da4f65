"""From nothing to a comparison with a method of one's own, as the README types it."""

import json
import os
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.cli.new import new
from tests.worlds.patience import allowed

ROOT = Path(__file__).parents[2]
TYPED = (
    "bench new method mine && pip install ./mine && bench check method mine && "
    "bench run -m mine -m mfm-gf -t digits -r template -b paper-nfe=200"
)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment whose `bench` and `pip` are those of this interpreter.

    pip puts packages into a folder of the test, and fetches nothing.
    """
    folder, site = tmp_path / "bin", tmp_path / "site"
    folder.mkdir()
    isolation = "--no-build-isolation" if find_spec("setuptools") else ""
    words = {"bench": "-m bench", "pip": "-m pip"}
    extra = {"bench": "", "pip": f"--quiet --no-deps {isolation} --target {shlex.quote(str(site))}"}
    for name, module in words.items():
        script = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@" {extra[name]}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{site}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
    }


def test_a_new_method_is_compared_as_typed(tmp_path, shell):
    work = tmp_path / "work"
    work.mkdir()
    started = time.perf_counter()
    done = subprocess.run(["sh", "-c", TYPED], env=shell, cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.perf_counter() - started < allowed(180)
    assert " 0 failed" in done.stdout and "Report: " in done.stdout
    (table,) = work.glob("runs/*/cells.parquet")
    cells = pd.read_parquet(table)
    assert set(cells.status) == {"ok"}
    companions = {"prior", "best-of-n", "best-of-n-fewstep"}
    assert set(cells.method) == {"mine", "mfm-gf"} | companions
    assert (cells.utilisation > 0.9).all()


@pytest.mark.parametrize("kind", ["method", "reward", "task"])
def test_what_to_do_next_ends_with_a_run(kind, tmp_path, monkeypatch, capsys):
    """The last line that is printed is a command whose plan holds."""
    monkeypatch.chdir(tmp_path)
    new(kind, "my-own")
    typed = capsys.readouterr().out.splitlines()[-1].strip()
    assert " my-own " in typed and typed.startswith("bench run ")
    known = {"method": "-m mfm-gf", "reward": "-r linear", "task": "-t gmm:dimension=2"}[kind]
    words = typed.replace(f"-{kind[0]} my-own", known).split()[2:]
    found = CliRunner().invoke(app, ["plan", *words, "--root", str(tmp_path), "--json"])
    assert {row["status"] for row in json.loads(found.output)} == {"pending"}
