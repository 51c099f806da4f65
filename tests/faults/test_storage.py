"""Disks that are full, that cannot be written to, that are slow, and folders that go away."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from bench.core.params import UserError
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from tests.worlds.cheap_run import CONTENT, assert_same, run, tables
from tests.worlds.silent import Silent
from tests.worlds.small_disks import on_a_disk

RUN = "bench run suite.yaml --root disk --executor inline --no-track"


def written(folder, **changes):
    (folder / "suite.yaml").write_text(json.dumps({**CONTENT, **changes}))


def test_a_disk_that_fills_up_stops_the_run_with_a_sentence(tmp_path):
    """In the middle of its cells; nothing is half there, and with room the same command goes on."""
    written(tmp_path, n=4096, seeds=12)
    count = "ls disk/cheap/cells/*/attempts/*/result.json | wc -l"
    code, said = on_a_disk(tmp_path, f"{RUN}\n{count}\ngrow\n{RUN}\n{count}", "600k")
    first, second = re.findall(r"^code (\d+)$", said, re.M)
    before, after = (int(n) for n in re.findall(r"^(\d+)$", said, re.M))
    assert (code, first, second) == (0, "2", "0") and 0 < before < 12 and after == 12, said
    assert re.search(r"error: cannot write .*No space left on device\): free space", said), said
    assert "Traceback" not in said and "12 ok." in said


def test_a_disk_that_is_full_from_the_start(tmp_path):
    written(tmp_path)
    script = f"{RUN}\ndd if=/dev/zero of=disk/full bs=4k 2>&1 | tail -1\n{RUN} --seeds 3\n{RUN}"
    code, said = on_a_disk(tmp_path, script, "1m")
    assert code == 0 and re.findall(r"^code (\d+)$", said, re.M) == ["0", "2", "0"], said
    assert re.search(r"error: cannot write .*No space left on device", said), said
    assert "Traceback" not in said and "Nothing to do: all 2 cells" in said


def test_a_disk_that_turns_read_only(tmp_path):
    """What is finished is shown; what lacks cells says why they cannot be run."""
    written(tmp_path)
    code, said = on_a_disk(tmp_path, f"{RUN}\nfreeze\n{RUN}\n{RUN} --seeds 3", "8m")
    assert code == 0 and re.findall(r"^code (\d+)$", said, re.M) == ["0", "0", "2"], said
    assert "Nothing to do: all 2 cells" in said and "Traceback" not in said
    assert re.search(r"error: cannot write .*Read-only file system", said), said


class Moving(Silent):
    """Takes the root away when the first cell is stored."""

    def __init__(self, root, emptied):
        self.root, self.emptied = root, emptied

    def finished(self, row, attempt):
        if self.root.exists() and not self.root.with_name("away").exists():
            self.root.rename(self.root.with_name("away"))
            if self.emptied:
                self.root.mkdir()


@pytest.mark.parametrize("emptied", [False, True])
def test_a_folder_that_goes_away_is_not_begun_anew(tmp_path, emptied):
    """Renamed, or unmounted, which leaves an empty folder; whole when it is back."""
    whole = tables(run(tmp_path / "whole")[0])
    root = tmp_path / "root"
    suite = build_suite(CONTENT)
    with pytest.raises(UserError, match=r"is not there any more.*mount or move it back"):
        run_suite(suite, Store(str(root), "cheap"), Inline, Moving(root, emptied))
    assert not list(root.glob("**/result.json")), "a second record beside the first"
    away = tmp_path / "away"
    assert len(list(away.glob("cheap/cells/*/attempts/*/result.json"))) == 1
    if root.exists():
        root.rmdir()
    away.rename(root)
    store, outcome = run(root)
    assert outcome.executed == 1
    assert_same(whole, tables(store))


def test_slow_storage_is_no_time_of_a_cell(tmp_path, monkeypatch):
    own = os.fsync

    def slow(file):
        time.sleep(0.1)
        own(file)

    monkeypatch.setattr(os, "fsync", slow)
    began = time.monotonic()
    store, outcome = run(tmp_path)
    took = time.monotonic() - began
    cells = store.table("cells")
    assert outcome.statuses == {"ok": 2} and took > 1.0
    assert (cells.cell_seconds < took / 2).all() and (cells.seconds < 0.1).all()
