"""Ctrl-C in a terminal, SIGTERM, SIGHUP: stopped within seconds, and the same command goes on."""

import json
import os
import re
import signal

import pytest

from bench.core.interrupted import Interrupted
from bench.record.store import Store
from bench.runner.stopping import stoppable
from tests.worlds import odd_plugins
from tests.worlds.cheap_run import run
from tests.worlds.terminals import Terminal

LONG = {
    "name": "long", "tasks": ["gmm-paper"], "rewards": ["inverse"], "seeds": 12, "n": 256,
    "methods": ["dps:steps=400"], "budgets": ["none"],
}  # fmt: skip


def begin(folder, executor):
    (folder / "suite.yaml").write_text(json.dumps(LONG))
    command = ["run", "suite.yaml", "--root", ".", "--no-track", "--executor", executor]
    terminal = Terminal([*command, "--workers", "1"], folder)
    terminal.until(lambda: len(results(folder)) >= 2, 120)
    return terminal


def results(folder):
    return list(folder.glob("long/cells/*/attempts/*/result.json"))


def assert_stopped(folder, terminal, within):
    code, text, took = terminal.end(60)
    assert code == 130 and took < within, (code, took, text)
    (said,) = re.findall(r"stopped: .*\.", text)
    done = len(results(folder))
    assert said == f"stopped: {done} of 12 cells of 'long' are done; the same command goes on."
    assert "Traceback" not in text and "failed" not in text
    assert 2 <= done < 12
    assert all(json.loads(path.read_text())["status"] == "ok" for path in results(folder))
    assert not Store(str(folder), "long").has("report.html")


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_ctrl_c_in_a_terminal(tmp_path, executor):
    terminal = begin(tmp_path, executor)
    terminal.press_ctrl_c()
    assert_stopped(tmp_path, terminal, within=15)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals(tmp_path, number):
    terminal = begin(tmp_path, "inline")
    terminal.process.send_signal(number)
    assert_stopped(tmp_path, terminal, within=10)


def test_a_plugin_that_keeps_the_interrupt_to_itself(tmp_path, monkeypatch):
    """Its attempt is not believed, and nothing after it is begun."""

    def deaf(problem, n):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("not interrupted")
        except BaseException:
            return odd_plugins.plain(problem, n)

    odd_plugins.install(monkeypatch)
    monkeypatch.setitem(odd_plugins.MAKES, "deaf", deaf)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="1 of 3 cells"), stoppable("stopped"):
        run(tmp_path, methods=["prior:steps=2", "odd:name=deaf", "odd"], seeds=1)
    assert len(list(tmp_path.glob("cheap/cells/*/attempts"))) == 1
    assert signal.getsignal(signal.SIGINT) is before
