"""Sweeps are durable: samplers made anew, kills at any moment, and workers of any speed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from bench.core.params import UserError
from bench.plan.suite import build_suite
from bench.record.lease import LEASE
from bench.record.lock import OWNER, driving
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from sweeps.dispatcher import Dispatcher
from sweeps.driver import Silent, run_sweep
from sweeps.proposals import Told, propose
from sweeps.samplers import SAMPLERS, make_sampler
from sweeps.space import Axis, Space, parse_change
from sweeps.study import Study
from tests.worlds import toy_sweeps
from tests.worlds.cheap_run import CONTENT
from tests.worlds.small_sweep import small_sweep
from tests.worlds.toy_sweeps import REAL, TOY, planner, suggestions, sweep

# A fixture: pytest looks for it in this module.
registered = toy_sweeps.registered


# -- samplers -------------------------------------------------------------------------------------

PLANE = Space((Axis("a", "float", 1.0, 0.1, 10.0, log=True), Axis("k", "int", 1, 1, 50)))


def trajectory(text, trials=12, seed=0):
    sampler, told, found = make_sampler(text), [], []
    for k in range(trials):
        values, attrs = propose(PLANE, sampler, sampler.seed(seed, "s", k), told, ["minimize"], {})
        found.append(values)
        told.append(Told(values, "complete", (abs(values["a"] - 2),), attrs=attrs))
    return found


@pytest.mark.parametrize("name", ["tpe:startup=3", "random", "nsga2:population=3", "grid:levels=4"])
def test_a_sampler_made_anew_neither_repeats_itself_nor_forgets(name):
    found = trajectory(name)
    distinct = len({json.dumps(values) for values in found})
    # Children of a genetic algorithm may equal a parent.
    assert distinct == len(found) or (name.startswith("nsga2") and distinct > len(found) / 2)
    assert found == trajectory(name) and found != trajectory(name, seed=1)
    assert all(PLANE.axes[0].holds(v["a"]) and PLANE.axes[1].holds(v["k"]) for v in found)


def test_samplers_take_only_what_they_know():
    assert set(SAMPLERS) == {"tpe", "gp", "nsga2", "random", "grid"}
    with pytest.raises(UserError, match="did you mean 'startup'"):
        make_sampler("tpe:startp=3")


def test_a_grid_ends_when_every_point_was_tried(tmp_path):
    space = {"shift": "-1..1", "mode": "off", "wildness": "off", "draws": "off"}
    swept = sweep(tmp_path, replace(TOY, sampler="grid:levels=4", space=space))
    tried = [trial.params["shift"] for trial in swept.studies[0].trials[1:]]
    assert sorted(tried) == pytest.approx([-1, -1 / 3, 1 / 3, 1], rel=1e-5)


# -- durability -----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_interrupted_anywhere_it_gives_the_same_trials(tmp_path, monkeypatch):
    whole = sweep(tmp_path, REAL, "whole")
    plain, chance = Dispatcher.took, random.Random(3)

    def mortal(self, attempt):
        if chance.random() < 0.15:
            raise Killed  # before the store heard of it
        plain(self, attempt)
        if chance.random() < 0.15:
            raise Killed

    deaths = 0
    with monkeypatch.context() as patch:
        patch.setattr(Dispatcher, "took", mortal)
        while True:
            try:
                again = sweep(tmp_path, REAL, "killed")
                break
            except Killed:
                deaths += 1
    assert deaths >= 2
    assert suggestions(again) == suggestions(whole)
    attempts = list((tmp_path / "killed").glob("cells/*/attempts/*"))
    assert len(attempts) == len(list((tmp_path / "killed").glob("cells/*")))
    states = again.store.table("trials")
    assert list(states.trial) == list(range(len(states))) and "running" not in set(states.state)
    assert sweep(tmp_path, REAL, "killed").executed == 0


def test_a_longer_sweep_continues_a_shorter_one(tmp_path):
    short = sweep(tmp_path, REAL)
    longer = sweep(tmp_path, replace(REAL, trials=11))
    assert suggestions(longer)[: len(suggestions(short))] == suggestions(short)
    assert len(suggestions(longer)) == 11
    with pytest.raises(UserError, match="holds another sweep"):
        sweep(tmp_path, replace(REAL, seed=1))


def command(root, *extra):
    text = "sweep dps -t gmm-paper -r inverse -b paper-nfe=60 --trials 12 --n 32 --seeds 1"
    text += " --sampler tpe:startup=3 --tuning-seeds 1 --objective reward --no-track --name s"
    text += " --space guidance=0.1..10:log --space scale=off --space start=off"
    return [sys.executable, "-m", "bench", *text.split(), "--root", str(root), *extra]


COMMANDED = small_sweep(
    "dps",
    "paper-nfe=60",
    trials=12,
    n=32,
    space=dict(map(parse_change, ("guidance=0.1..10:log", "scale=off", "start=off"))),
)
"""What `command` asks for."""


def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for least in (2, 6):
        process = subprocess.Popen(
            command(killed, "--executor", "inline"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(list(killed.glob("s/cells/*/attempts/*/result.json"))) < least:
            assert process.poll() is None, "finished before it could be killed"
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for root in (killed, whole):
        run_sweep(COMMANDED, Store(str(root), "s"), Inline)
    tables = [Store(str(root), "s").table("trials") for root in (killed, whole)]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == 12 and set(tables[0].state) <= {"complete", "pruned", "fail"}


def test_two_drivers_cannot_run_one_sweep(tmp_path):
    code = "import sys, time, pathlib; from bench.record.lock import driving\n"
    code += "with driving(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(UserError, match=f"process {holder.pid}"):
            sweep(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    folder = tmp_path / "s"
    with driving(folder):  # the lock of the dead is taken over
        with pytest.raises(UserError, match=f"process {os.getpid()} on "), driving(folder):
            pass
        (folder / OWNER).unlink()  # as long as a driver has not written it yet
        with pytest.raises(UserError, match="only just started"), driving(folder):
            pass
    assert not (folder / OWNER).exists()
    assert sweep(tmp_path, replace(TOY, trials=2)).executed


class Meddling(Silent):
    """Another command begins a run of the same name while trials are run."""

    def __init__(self, root):
        self.root, self.refused = root, 0

    def trial(self, study, attempt):
        with pytest.raises(UserError, match=f"another driver runs 's' .process {os.getpid()}"):
            run_suite(build_suite({**CONTENT, "name": "s"}), self.store(), Inline, Silent())
        self.refused += 1

    def store(self):
        return Store(str(self.root), "s")


def test_a_run_and_a_sweep_of_one_name_exclude_each_other(tmp_path):
    few = replace(TOY, trials=2)
    with driving(tmp_path / "s"), pytest.raises(UserError, match="another driver runs 's'"):
        sweep(tmp_path, few)
    watcher = Meddling(tmp_path)
    assert sweep(tmp_path, few, watcher=watcher).executed and watcher.refused == 2


def test_a_sweep_that_lies_elsewhere_holds_its_folder_once():
    """The run that compares what it found is its own, and is not refused."""
    swept = sweep("memory://sweeps", replace(TOY, trials=2))
    assert swept.executed and len(swept.store.table("tuning"))
    assert not swept.store.has(LEASE)


def in_order(root, order, workers=2):
    """The suggestions when cells end in an order of their own."""
    store = Store(str(root), "s")
    store.open()
    study = Study(TOY, planner(TOY), store, workers)
    dispatcher, open_jobs = Dispatcher([study], store, workers), []
    while not dispatcher.finished:
        while (job := dispatcher.next()) is not None:
            open_jobs.append(job)
        dispatcher.took(open_jobs.pop(order(len(open_jobs))).run())
    return [trial.label for trial in study.trials]


def test_suggestions_do_not_depend_on_which_worker_is_faster(tmp_path):
    first = in_order(tmp_path / "a", lambda n: 0)
    assert first == in_order(tmp_path / "b", lambda n: n - 1)


@pytest.mark.slow
def test_ray_and_inline_agree(tmp_path):
    roots = [tmp_path / name for name in ("ray", "inline")]
    subprocess.run(
        command(roots[0], "--workers", "1"), check=True, capture_output=True, timeout=300
    )
    subprocess.run(command(roots[1], "--executor", "inline"), check=True, capture_output=True)
    first, second = (Store(str(root), "s").table("trials") for root in roots)
    assert first.equals(second)
