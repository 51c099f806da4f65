"""docs/text-to-image.md: what a new user copies from it runs, with a tiny pipeline in its place."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.worlds.tiny_pipelines import SIDE, saved_pipeline

PAGE = Path(__file__).parents[2] / "docs" / "text-to-image.md"


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_command_of_the_page_runs(tmp_path):
    (tmp_path / "FLUX.1-dev").symlink_to(saved_pipeline("flux"))
    (code,) = blocks("python")
    (tmp_path / "my_reward.py").write_text(code)
    (command,) = blocks("sh")
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
    table = pd.read_parquet(tmp_path / "runs" / "warm" / "cells.parquet")
    done = table[table.status == "ok"]
    assert set(done.method) >= {"prior", "best-of-n", "dps", "fk"}
    assert len(done) >= 4 * 2
    assert (tmp_path / "runs" / "warm" / "report.html").is_file()
