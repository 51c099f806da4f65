"""Parts of Ray that are killed in a run: one sentence, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.core.params import UserError
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.executors import ray as ray_executor
from bench.runner.executors import ray_watch
from bench.runner.executors.ray import RayTune
from bench.runner.executors.ray_watch import Part, Watch, said_of
from tests.worlds.cheap_run import CONTENT
from tests.worlds.hard_cells import Unopenable
from tests.worlds.processes import below

LONG = {
    "name": "long", "tasks": ["gmm-paper"], "rewards": ["inverse"], "seeds": 4, "n": 64,
    "methods": ["dps:steps=2000"], "budgets": ["none"],
}  # fmt: skip


def results(folder):
    return list(folder.glob("long/cells/*/attempts/*/result.json"))


def drive(folder, *options):
    command = [sys.executable, "-m", "bench", "run", "suite.yaml", "--root", ".", "--no-track"]
    return subprocess.Popen(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "named"),
    [("raylet/raylet", "the raylet of this machine"), ("gcs/gcs_server", "the head")],
)
def test_a_cluster_that_is_gone_is_one_sentence(tmp_path, program, named):
    """Before Ray ends the process itself; nothing of Ray is left, and nothing is `failed`."""
    (tmp_path / "suite.yaml").write_text(json.dumps(LONG))
    driver = drive(tmp_path, "--executor", "ray", "--workers", "1")
    while len(results(tmp_path)) < 1:
        assert driver.poll() is None, driver.stdout.read()
        time.sleep(0.05)
    children = below(driver.pid)
    (victim,) = [pid for pid, words in children.items() if words[0].endswith(program)]
    os.kill(victim, signal.SIGKILL)
    text, _ = driver.communicate(timeout=100)
    assert driver.returncode == 2, text
    assert f"error: {said_of(named)}" in text and "Traceback" not in text
    done = results(tmp_path)
    assert 1 <= len(done) < 4, "only what has finished is stored"
    assert all(json.loads(path.read_text())["status"] == "ok" for path in done)
    end = time.monotonic() + 90
    while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, f"left over: {left}"
        time.sleep(0.2)
    kept = {path: path.stat().st_mtime_ns for path in done}
    again = drive(tmp_path, "--executor", "inline")
    text, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "4 ok" in text, text
    assert kept == {path: path.stat().st_mtime_ns for path in done}


def test_what_answers_again_in_time_is_not_gone(monkeypatch):
    """A head that is restarted, or a network that was away for a moment."""
    monkeypatch.setattr(ray_watch, "PERIOD", 0.01)
    monkeypatch.setattr(ray_watch, "HERE", 0.5)
    silent = iter([True, False, False, True])

    class Moody(Part):
        def answers(self):
            return next(silent, True)

    watch = Watch({"the head": Moody("127.0.0.1", 1, here=True)})
    thread = threading.Thread(target=watch.look)
    thread.start()
    time.sleep(0.3)
    watch.ended.set()
    thread.join()
    assert watch.gone == ""


STUCK = """
import hashlib, signal, threading
from bench.runner.executors import ray_watch
ray_watch.PERIOD, ray_watch.HERE, ray_watch.AGAIN, ray_watch.UNHEARD = 0.05, 0.1, 0.1, 0.5
watch = ray_watch.Watch({"the head": ray_watch.Part("127.0.0.1", 1, here=True)})
signal.signal(ray_watch.SIGNAL, watch.interrupt)
threading.Thread(target=watch.look, daemon=True).start()
hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)
"""
"""The main thread is in a call that no signal ends, as a request to a head that is gone may be."""


def test_a_call_that_nothing_interrupts_ends_with_the_sentence_too():
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"error: {said_of('the head')}\n")


def test_what_nobody_begins_is_said_and_stays_pending(monkeypatch):
    """Workers that cannot even be started mark no cell as failed, and the run does not end well."""
    monkeypatch.setattr(ray_executor, "ROUNDS", 2)
    monkeypatch.setattr(ray_executor, "BACK_OFF", 0.1)
    found = []
    with pytest.raises(UserError, match="could not begin 2 of 2 cells in 2 rounds: its workers"):
        jobs = [Unopenable(row.cell) for row in expand(build_suite(CONTENT))]
        RayTune(workers=1).run(jobs, found.append)
    assert found == []
