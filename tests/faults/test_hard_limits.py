"""Cells that crash, hang or are killed, under the executors that contain them."""

import time
from dataclasses import replace

import pytest

from bench.plan.expand import expand
from bench.plan.resources import read_resources
from bench.plan.suite import build_suite
from bench.runner.executors import ray as ray_executor
from bench.runner.executors.process import Processes
from bench.runner.executors.ray import RayTune
from bench.runner.limits import GRACE, hard_limit
from tests.worlds.cheap_run import CONTENT
from tests.worlds.hard_cells import HardJob


def jobs(folder, *deeds, limit=8):
    content = {**CONTENT, "seeds": len(deeds), "resources": {"limit": limit}}
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
