"""`bench reproduce`: the recorded suite again, in another place, and what came out."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from bench.record.store import Store

RUN = (
    *("run", "-t", "gmm-paper", "-r", "inverse", "-m", "prior", "-m", "dps"),
    *("-b", "paper-nfe=20", "--seeds", "2", "--set", "n=64", "--name", "small"),
    *("--executor", "inline", "--no-track"),
)


def call(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_run_is_reproduced_to_the_last_digit_and_a_changed_one_is_noticed(tmp_path: Path) -> None:
    call(*RUN, "--root", str(tmp_path / "runs"))
    first = tmp_path / "runs" / "small"
    again = ("reproduce", str(first), "--executor", "inline", "--root", str(tmp_path / "again"))
    said = call(*again)
    count = said.split(" metrics of rows identical")[0].split()[-3:]
    assert count[0] == count[2] and int(count[0]) > 0, said
    assert "differs" not in said, "the same versions on the same machine"
    assert "no value" not in said, "what neither has, for the same reason, is no difference"
    metrics = pd.read_parquet(first / "metrics.parquet")
    other = metrics.assign(value=metrics["value"] + 1)
    other.to_parquet(first / "metrics.parquet")
    with pytest.raises(UserError, match=r"metrics\.parquet .* does not match its checksum"):
        call("compare", str(first), str(tmp_path / "again" / "small"))
    Store(str(tmp_path / "runs"), "small").save_table("metrics", other)
    assert "0 of" in call("compare", str(first), str(tmp_path / "again" / "small"))
    assert call("report", str(first), "--watch", "1").endswith("report.html\n"), "nothing waits"


def test_a_run_is_not_reproduced_onto_itself(tmp_path: Path) -> None:
    call(*RUN, "--root", str(tmp_path))
    words = ["reproduce", str(tmp_path / "small"), "--executor", "inline", "--root", str(tmp_path)]
    with pytest.raises(UserError, match="name another place with --root"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_page_follows_a_run_until_every_cell_has_ended(tmp_path: Path) -> None:
    """Cells are taken away and given back while it watches."""
    call(*RUN, "--root", str(tmp_path))
    cells, aside = tmp_path / "small" / "cells", tmp_path / "aside"
    cells.rename(aside)
    cells.mkdir()
    with FileLock(tmp_path / "small" / "run.lock"):
        watcher = Thread(target=back, args=(aside, cells))
        watcher.start()
        said = call("report", str(tmp_path / "small"), "--watch", "1")
        watcher.join()
    assert said.rstrip().endswith("every cell has ended"), said


def back(aside: Path, cells: Path) -> None:
    """What a driver does, faster."""
    time.sleep(0.5)
    for cell in aside.iterdir():
        cell.rename(cells / cell.name)


def test_a_page_does_not_wait_for_a_run_that_nobody_drives(tmp_path: Path) -> None:
    call(*RUN, "--root", str(tmp_path))
    (gone, *_) = (tmp_path / "small" / "cells").iterdir()
    gone.rename(tmp_path / "gone")
    said = call("report", str(tmp_path / "small"), "--watch", "1")
    assert "1 cells to go" in said and "Nobody computes them now" in said
