"""Clocks on the wall that jump, between cells and within them, here and where a run is kept."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest

from bench.core.params import UserError
from bench.record import lease
from bench.record.files import RunFiles
from bench.record.lease import Holder, driven, leased
from bench.runner import cell
from bench.tracking.artifacts import read_records
from tests.worlds.cheap_run import assert_same, run, tables

DAY, YEAR = timedelta(days=1), timedelta(days=365)
BUDGETS = {"methods": ["prior"], "budgets": ["seconds=0.02"]}


@pytest.fixture
def jumping(monkeypatch):
    """A clock that is a day behind and a year ahead, by turns."""
    jumps = cycle((-DAY, YEAR))
    own, own_ns = time.time, time.time_ns

    class Jumping(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(own(), tz) + next(jumps)

    monkeypatch.setattr(time, "time", lambda: own() + next(jumps).total_seconds())
    monkeypatch.setattr(
        time, "time_ns", lambda: own_ns() + int(next(jumps).total_seconds()) * 10**9
    )
    monkeypatch.setattr(cell, "datetime", Jumping)


def test_no_number_of_a_run_is_of_the_clock_on_the_wall(tmp_path, jumping):
    began = time.monotonic()
    store, outcome = run(tmp_path)
    timed, timed_outcome = run(tmp_path, name="timed", **BUDGETS)
    took = time.monotonic() - began
    assert outcome.statuses == {"ok": 2} and set(timed_outcome.statuses) <= {"ok", "over_budget"}
    for each in (store, timed):
        cells = each.table("cells")
        assert cells.cell_seconds.between(0, took).all() and cells.seconds.between(0, took).all()
        for record in read_records(each):
            assert 0 <= record.finished - record.started <= 1000 * took
    again, outcome = run(tmp_path)
    assert outcome.executed == 0
    assert_same(tables(store), tables(again))


STAMPS = {
    "bench/runner/cell.py",
    "bench/cli/prefetch.py",
    "bench/tracking/live.py",
    "bench/tracking/mirror.py",
}
"""Where the time of day is written down and nothing is measured by it."""


def test_what_is_measured_is_measured_by_a_clock_that_only_runs_on():
    wall = re.compile(
        r"time\.time(_ns)?\(|datetime\.(now|utcnow|today)\(|from time import .*\btime\b"
    )
    files = (
        p for root in ("bench", "methods", "rewards", "sweeps") for p in Path(root).rglob("*.py")
    )
    assert {str(path) for path in files if wall.search(path.read_text())} == STAMPS


@pytest.mark.parametrize("jump", [-DAY, YEAR])
@pytest.mark.parametrize("lives", [True, False])
def test_a_lease_outlives_jumps_of_its_clock(monkeypatch, jump, lives):
    """Of a driver that renews it, and of no other; whatever the store's clock has become."""
    monkeypatch.setattr(lease, "RENEW", 0.2)
    monkeypatch.setattr(lease, "SETTLE", 0.3)
    files = RunFiles(f"memory://clocks-{jump.days}-{lives}", "run")
    files.write(lease.LEASE, Holder("t", 1, "elsewhere").data())
    own = RunFiles.modified

    def stamped(self, name):
        """The lease was written before the clock jumped, what is written now is after it."""
        found = own(self, name)
        return found + jump if found is not None and name == lease.CLOCK else found

    monkeypatch.setattr(RunFiles, "modified", stamped)
    ended = threading.Event()

    def renewing():
        while not ended.wait(0.1):
            with suppress(OSError):
                files.write(lease.LEASE, Holder("t", 1, "elsewhere").data())

    if lives:
        threading.Thread(target=renewing, daemon=True).start()
    try:
        assert not driven(files)
        if lives:
            with (
                pytest.raises(UserError, match=r"another driver runs 'run' .*just now"),
                leased(files),
            ):
                raise AssertionError("two drivers")
        else:
            with leased(files):
                assert files.has(lease.LEASE)
    finally:
        ended.set()
