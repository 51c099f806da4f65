"""docs/text-to-image.md: what a new user copies from it runs, with a tiny pipeline in its place."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bench.plan.expand import expand
from bench.plan.suite import build_suite
from tests.worlds.tiny_pipelines import SIDE, saved_pipeline

PAGE = Path(__file__).parents[2] / "docs" / "text-to-image.md"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run(tmp_path, command):
    """A command of the page, with the tiny pipeline, the page's reward and eight prompts."""
    (tmp_path / "FLUX.1-dev").symlink_to(saved_pipeline("flux"))
    (code,) = blocks("python")
    (tmp_path / "my_reward.py").write_text(code)
    (tmp_path / "prompts.txt").write_text("\n".join(f"a picture of {k} cats" for k in range(8)))
    small = re.sub(r"(height|width)=\d+", rf"\1={SIDE}", command)
    program, *arguments = shlex.split(small.replace("\\\n", " "))
    assert program == "bench"
    inline = ["--executor", "inline", "--no-track", "--root", "runs"]
    ran = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, *inline],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_command_of_the_page_runs(tmp_path):
    run(tmp_path, blocks("sh")[0])
    table = pd.read_parquet(tmp_path / "runs" / "warm" / "cells.parquet")
    done = table[table.status == "ok"]
    assert set(done.method) >= {"prior", "best-of-n", "dps", "fk"}
    assert len(done) >= 4 * 2
    assert (tmp_path / "runs" / "warm" / "report.html").is_file()


@pytest.mark.slow
def test_the_command_for_many_prompts_runs(tmp_path):
    """In one cell per method, with metrics of every prompt."""
    run(tmp_path, blocks("sh")[1].replace("paper-nfe=80", "paper-nfe=20"))
    cells, metrics = (
        pd.read_parquet(tmp_path / "runs" / "prompts" / f"{name}.parquet")
        for name in ("cells", "metrics")
    )
    assert set(cells.status) <= {"ok", "skipped", "infeasible"}
    cells = cells[cells.status == "ok"]
    assert set(cells.method) >= {"prior", "dps", "fk:particles=4"}
    assert cells.groupby("method").size().max() == 1
    prompts = metrics[metrics.metric == "reward"].groupby("cell")["condition"].nunique()
    assert set(prompts) == set(cells.n // 4)
    assert prompts.min() > 1


def test_the_suite_of_the_page_is_one(tmp_path, monkeypatch):
    """A fit of each fine-tuning method, for all prompts but those that are held out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "FLUX.1-dev").symlink_to(saved_pipeline("flux"))
    (tmp_path / "my_reward.py").write_text(blocks("python")[0])
    (tmp_path / "prompts.txt").write_text("\n".join(f"a picture of {k} cats" for k in range(44)))
    (text,) = blocks("yaml")
    small = re.sub(r"(height|width)=\d+", rf"\1={SIDE}", text)
    rows = expand(build_suite(yaml.safe_load(small)))
    fits = [row.fit.cell for row in rows if row.fit]
    assert len(fits) == 2
    report = len(rows[0].cell.each)
    assert 8 < report <= 40
    assert [len(cell.each) for cell in fits] == [report - 8] * 2
