"""Cells that crash, hang or are killed, under the executors that contain them."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.params import UserError
from bench.plan.expand import expand
from bench.plan.resources import read_resources
from bench.plan.suite import build_suite
from bench.runner.executors import ray as ray_executor
from bench.runner.executors.process import Processes
from bench.runner.executors.ray import RayTune
from bench.runner.limits import GRACE, hard_limit, swollen
from tests.worlds.cheap_run import CONTENT
from tests.worlds.hard_cells import HardJob


def jobs(folder, *deeds, limit=8, **resources):
    content = {**CONTENT, "seeds": len(deeds), "resources": {"limit": limit, **resources}}
    rows = expand(build_suite(content))
    return [
        HardJob(row.cell, deed=deed, mark=folder / str(k))
        for k, (row, deed) in enumerate(zip(rows, deeds, strict=True))
    ]


def ends(executor, jobs):
    found = {}
    executor.run(jobs, lambda attempt: found.__setitem__(attempt.cell, attempt))
    return [found[job.id] for job in jobs]


def test_a_process_contains_crashes_and_hangs(tmp_path):
    began = time.monotonic()
    crashed, exited, killed, hung, good = ends(
        Processes(), jobs(tmp_path, "segfault", "exit", "killed", "hang", "")
    )
    assert (crashed.status, crashed.reason) == (
        "failed",
        "its process ended by SIGSEGV, without an answer",
    )
    assert "with exit code 7" in exited.reason and not exited.lost
    assert killed.lost and "want of memory" in killed.reason
    assert hung.status == "timeout" and "ended after 8 s" in hung.reason
    assert good.ok and time.monotonic() - began < 120


def test_a_process_serves_many_cells(tmp_path):
    """The same answers as in this process."""
    rows = expand(build_suite(CONTENT))
    from bench.runner.cell import Job

    plain = [Job(row.cell) for row in rows]
    for here, there in zip([job.run() for job in plain], ends(Processes(), plain), strict=True):
        assert here.ok and here.samples == there.samples


def test_ray_ends_what_hangs_and_tries_again_what_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "ROUNDS", 2)
    monkeypatch.setattr(ray_executor, "BACK_OFF", 0.1)
    hung, once, killed, good = ends(
        RayTune(workers=1), jobs(tmp_path, "hang", "killed once", "killed", "", limit=12)
    )
    assert hung.status == "timeout" and "ended after 12 s" in hung.reason
    assert once.ok and good.ok
    assert killed.lost and "died 2 times" in killed.reason
    assert [len((tmp_path / str(k)).read_bytes()) for k in range(4)] == [1, 2, 2, 1]


def test_a_little_too_much_reads_as_more_than_what_was_allowed(tmp_path):
    (job,) = jobs(tmp_path, "", memory="1.5GiB")
    said = swollen(job.cell, "", 1.5 * 2**30 + 4096).reason
    assert "held 1.51 GiB of memory, more than the 1.50 GiB of its resources" in said


@pytest.mark.parametrize(
    "executor", [Processes, lambda: RayTune(workers=1)], ids=["process", "ray"]
)
def test_a_process_that_holds_too_much_memory_is_ended(tmp_path, executor):
    """Once, with a sentence that says how much it was; the next cell has a process of its own."""
    hog, good = ends(executor(), jobs(tmp_path, "hog", "", limit=60, memory="1.5GiB"))
    assert hog.status == "failed" and not hog.lost, hog.reason
    held = float(re.search(r"held ([0-9.]+) GiB of memory, more than the 1.50 GiB", hog.reason)[1])
    assert 1.5 < held < 2.5 and "raise `resources: {memory: ...}` or lower `batch`" in hog.reason
    assert good.ok and [len((tmp_path / str(k)).read_bytes()) for k in range(2)] == [1, 1]


@pytest.mark.slow
def test_a_worker_that_ray_ends_for_want_of_memory_says_so(tmp_path, monkeypatch):
    """Ray's monitor ends workers when their node is nearly full; here at 2 GiB above what is."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    whole, free = (float(told[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    monkeypatch.setenv("RAY_memory_usage_threshold", str((whole - free + 2 * 2**20) / whole))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    monkeypatch.setattr(ray_executor, "ROUNDS", 1)
    try:
        (hog,) = ends(RayTune(workers=1), jobs(tmp_path, "hog", limit=60))
        told = hog.reason if hog.lost else ""
    except UserError as error:  # the monitor took the mailbox too: nobody knows what was begun
        told = str(error)
        assert "Ray could not begin 1 of 1 cells in 1 rounds" in told
    assert "a worker died for want of memory on its node" in told and "--workers" in told


def test_what_limits_a_cell_decides_no_sample():
    (cell, other) = (row.cell for row in expand(build_suite(CONTENT)))
    assert hard_limit(cell) is None
    assert hard_limit(replace(cell, seconds=5.0)) == 10 + GRACE
    limited = replace(cell, seconds=5.0, resources=read_resources({"limit": 30}))
    assert hard_limit(limited) == 30 and limited.id == cell.id != other.id


@pytest.mark.parametrize("value", [0, -1, "5", True, float("inf")])
def test_a_limit_is_a_number_of_seconds(value):
    with pytest.raises(Exception, match="limit is a number of seconds"):
        read_resources({"limit": value})
