"""Sweeps: fair, durable, and never a way to buy compute or another target law."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
import torch
from small_sweep import small_sweep

from bench.api import Method, Samples, Task, forward
from bench.core import plugins
from bench.core.params import UserError, param
from bench.runner import presets
from bench.runner.executors import Inline
from bench.runner.pilots import Pilots
from bench.runner.planning import expand
from bench.runner.store import Store
from bench.runner.suite import build_suite
from sweeps import record
from sweeps.apply import apply
from sweeps.desk import Desk
from sweeps.driver import run_sweep
from sweeps.lock import driving
from sweeps.planning import Planner
from sweeps.proposals import Told, propose
from sweeps.samplers import SAMPLERS, make_sampler
from sweeps.space import Axis, Space, parse_change
from sweeps.spec import TUNING_SEED, check_conditions, check_disjoint, checked
from sweeps.study import Study


class Shift(Method):
    """Adds a constant to the noise; some constants fail, in every way there is."""

    @dataclass(frozen=True)
    class Params:
        shift: float = param(0.0, low=-4.0, high=4.0)
        steps: int = param(5, low=2, high=100)
        draws: int = param(1, low=1, high=50)
        mode: str = param("plain", choices=("plain", "wild"))
        wildness: float = param(1.0, low=0.1, high=10.0, log=True)
        best: float = param(0.0, low=0.0, high=1.0, tunable=False)
        fit_seed: int = param(0, low=0)

        search: ClassVar = {"wildness": {"when": {"mode": ["wild"]}}}

    effort = ("draws", "steps")

    def work(self, spec):
        return forward("flow", self.params.steps * self.params.draws)

    @torch.no_grad()
    def sample(self, problem, n):
        x = problem.x0()
        for _ in range(self.params.steps * self.params.draws):
            problem.flow.velocity(x, torch.full((len(x),), 0.5))
        if self.params.shift > 3:
            raise ValueError("too far")
        if self.params.shift < -3:
            raise FloatingPointError("diverged")
        return Samples(x + self.params.shift)


class Timid(Shift):
    """Uses a budget badly."""

    def work(self, spec):
        return forward("flow", 7 * self.params.steps * self.params.draws)

    @torch.no_grad()
    def sample(self, problem, n):
        x = problem.x0()
        for _ in range(7 * self.params.steps * self.params.draws):
            problem.flow.velocity(x, torch.full((len(x),), 0.5))
        return Samples(x + self.params.shift)


class Adrift(Shift):
    """Never arrives."""

    def sample(self, problem, n):
        raise FloatingPointError("lost at sea")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name in ("Shift", "Timid", "Adrift"):
        point = EntryPoint(name.lower(), f"test_sweeps:{name}", "bench.methods")
        monkeypatch.setitem(plugins.points("methods"), name.lower(), point)


TOY = small_sweep(
    "shift", "paper-nfe=20", reward="linear", trials=12, sampler="tpe:startup=4", space={}
)
SMALL = {"guidance": "0.1..10:log", "scale": "off", "start": "off", "noise_level": "off"}
REAL = small_sweep("mfm-g", "paper-nfe=60", trials=8, space={**SMALL, "inner_steps": "off"})


def sweep(root, spec=TOY, name="s", **options):
    return run_sweep(spec, Store(str(root), name), Inline, **options)


def suggestions(swept):
    return [(t.number, t.label, t.params) for study in swept.studies for t in study.trials]


def planner(spec, label=None):
    return Planner(spec, label or spec.methods[0], Pilots())


# -- spaces ---------------------------------------------------------------------------------------


def axes(spec=TOY, **space):
    found = planner(replace(spec, space={**spec.space, **space})).space.axes
    return {axis.name: axis for axis in found}


def test_a_space_is_read_off_the_params_with_the_default_inside():
    found = axes()
    assert set(found) == {"shift", "draws", "mode", "wildness"}
    assert found["wildness"].log and found["wildness"].when == (("mode", ("wild",)),)
    assert found["draws"].high == 10  # 20 paper-nfe at the least number of steps
    assert all(axis.holds(axis.default) for axis in found.values())
    narrow = axes(shift="-1..1", mode="off")
    assert (narrow["shift"].low, narrow["shift"].high) == (-1, 1) and "mode" not in narrow
    assert set(axes(replace(TOY, methods=("shift:mode=wild",)))) == {"shift", "draws", "wildness"}


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"strength": "1..5"}, "part of the target law"),
        ({"shift.strength": "1..5"}, "part of the target law"),
        ({"best": "0..1"}, "cannot be tuned"),
        ({"fit_seed": "0..5"}, "cannot be tuned"),
        ({"shift": "1..2"}, "leaves out 0"),
        ({"shift": "-9..9"}, "at least -4"),
        ({"mode": "plain|odd"}, "must be one of plain, wild"),
        ({"steps": "2..9", "draws": "1..5"}, "would buy compute"),
        ({"shfit": "0..1"}, "did you mean 'shift'"),
    ],
)
def test_what_cannot_be_tuned_is_refused(space, says, tmp_path):
    with pytest.raises(UserError, match=says):
        sweep(tmp_path, replace(TOY, space=space))


def test_strength_is_refused_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "bench", "sweep", "dps", "-t", "gmm-paper", "-r", "inverse"]
    command += ["-b", "paper-nfe=60", "--space", "strength=1..5", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "part of the target law" in done.stderr


def test_the_study_name_holds_a_hash_of_space_and_sampler(tmp_path):
    def name(**changes):
        spec = replace(TOY, **changes)
        return Study(spec, planner(spec), Store(str(tmp_path), "s"), 1).id

    own = name()
    assert own.startswith("shift-") and own == name(trials=99, seeds=(0, 1))
    others = [name(space={"shift": "-1..1"}), name(sampler="tpe:startup=5"), name(seed=1)]
    assert len({own, *others}) == 4


def test_the_grammar_of_spaces():
    assert parse_change("guidance=0.1..10:log")[1] == {"low": 0.1, "high": 10, "log": True}
    assert parse_change("scale=exact|clip") == ("scale", {"choices": ["exact", "clip"]})
    assert parse_change("mfm-g.start=off") == ("mfm-g.start", None)
    with pytest.raises(UserError, match="should read"):
        parse_change("guidance")


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


# -- fairness -------------------------------------------------------------------------------------


def test_tuning_never_buys_compute(tmp_path):
    spec = replace(TOY, space={"draws": "1..10", "mode": "off"})
    swept = sweep(tmp_path, spec)
    (study,) = swept.studies
    assert len({t.params["draws"] for t in study.trials}) > 2
    for trial in study.trials:
        if study.outcome(trial).state == "complete":
            used = study.spent([trial]) / spec.n
            assert 0.8 * 20 < used <= 20 and trial.row.matched["steps"] >= 2
    cells = swept.store.table("cells")
    assert cells[cells.status == "ok"].paper_nfe.le(20).all()


def test_the_default_is_the_first_trial_and_what_an_untuned_run_would_do(tmp_path):
    (study,) = sweep(tmp_path, REAL).studies
    (row,) = expand(
        build_suite(
            {"name": "x", "tasks": ["gmm-paper"], "rewards": ["inverse"], "methods": ["mfm-g"]}
            | {"budgets": [REAL.budget], "seeds": 1, "n": REAL.n}
        )
    )
    first = study.trials[0]
    assert first.label == "mfm-g" and first.row.cell.method_params == row.cell.method_params
    assert first.params["draws"] == row.matched["draws"]


def test_methods_get_equal_tuning_work(tmp_path):
    spec = replace(TOY, methods=("shift", "timid"), trials=10, tuning_seeds=2)
    swept = sweep(tmp_path, spec)
    work = [study.work for study in swept.studies]
    assert max(work) <= 1.05 * min(work)
    assert all(abs(w / s.total - 1) <= 0.05 for w, s in zip(work, swept.studies, strict=True))
    table = swept.store.table("tuning")
    assert list(table.tuning_work) == work
    with pytest.raises(UserError, match="cannot be made equal"):
        checked(replace(spec, tuning_seeds=1))


def test_tuning_and_reporting_data_cannot_overlap(tmp_path):
    swept = sweep(tmp_path, replace(TOY, seeds=(0, 1)))
    cells = swept.store.table("cells")
    tuned = {id_ for ids in swept.store.table("trials").cells for id_ in json.loads(ids)}
    assert cells[cells.cell.isin(tuned)].seed.ge(TUNING_SEED).all()
    assert sorted(cells[~cells.cell.isin(tuned)].seed.unique()) == [0, 1]
    with pytest.raises(UserError, match="is for tuning"):
        sweep(tmp_path, replace(TOY, seeds=(TUNING_SEED + 3,)), "other")
    with pytest.raises(UserError, match="is for tuning"):
        check_disjoint([7], [6, 7])

    class Prompted(Task):
        def conditions(self, split):
            return [f"a {split} prompt"]

    class Leaky(Task):
        def conditions(self, split):
            return ["a red circle"]

    check_conditions(Prompted.create(), "prompted")
    with pytest.raises(UserError, match="must be disjoint"):
        check_conditions(Leaky.create(), "leaky")


def test_fits_have_tuning_seeds_too():
    assert planner(TOY).row({}).cell.method_params["fit_seed"] == TUNING_SEED


def test_both_rows_cost_and_optimism_are_reported(tmp_path):
    swept = sweep(tmp_path)
    (row,) = swept.store.table("tuning").to_dict("records")
    (study,) = swept.studies
    results = swept.store.table("results").query("metric == 'reward'")
    own = results[(results.method == study.best.label) & (results.seed < TUNING_SEED)]
    assert row["tuned_score"] == pytest.approx(own.value.mean())
    assert row["optimism"] == pytest.approx(row["tuned_tuning_score"] - row["tuned_score"])
    assert row["tuned_tuning_score"] >= row["default_tuning_score"]
    from reports.html import build
    from reports.store import load

    page = build(swept.store.folder).read_text()
    assert 'id="tuning"' in page and "optimism" in page
    assert set(load(swept.store.folder).cells.seed) == {0}


# -- outcomes -------------------------------------------------------------------------------------


def test_failures_are_told_as_such(tmp_path):
    spec = replace(TOY, trials=25, sampler="random", space={"draws": "off", "mode": "off"})
    swept = sweep(tmp_path, spec, dashboard=True)
    (study,) = swept.studies
    states = {}
    for trial in study.trials:
        shift = trial.params["shift"]
        expected = "fail" if shift > 3 else "pruned" if shift < -3 else "complete"
        assert study.outcome(trial).state == expected, shift
        states[expected] = states.get(expected, 0) + 1
    assert set(states) == {"fail", "pruned", "complete"}
    import optuna

    stored = optuna.load_study(
        study_name=study.id, storage=f"sqlite:///{swept.store.folder / record.SQLITE}"
    )
    told = [trial.state.name.lower() for trial in stored.trials]
    assert {s: told.count(s) for s in set(told)} == states


def test_an_objective_that_is_not_finite_is_pruned(tmp_path, monkeypatch):
    plain = Study.ended_with

    def poisoned(self, cell, result, metrics):
        bad = cell.method_params["shift"] > 0
        plain(
            self,
            cell,
            result,
            [{**m, "value": float("nan") if bad else m["value"]} for m in metrics],
        )

    monkeypatch.setattr(Study, "ended_with", poisoned)
    (study,) = sweep(tmp_path, replace(TOY, trials=8), report=False).studies
    for trial in study.trials:
        if trial.params["shift"] > 0:
            assert study.outcome(trial).state in ("pruned", "fail")


def test_halving_stops_hopeless_trials_and_keeps_the_work(tmp_path):
    spec = replace(TOY, tuning_seeds=3, trials=15, prune="asha:reduction=3,grace=2")
    (study,) = sweep(tmp_path, spec, report=False).studies
    cut = [t for t in study.trials if study.outcome(t).reason.startswith("pruned after")]
    assert cut and all(study.spent([t]) < study.spent([study.trials[0]]) for t in cut)
    assert abs(study.work / study.total - 1) < 0.05  # saved work re-scores the leaders
    with pytest.raises(UserError, match="single objective"):
        checked(replace(spec, objectives=("reward", "seconds")))


def test_several_objectives_have_a_front(tmp_path):
    spec = replace(TOY, objectives=("reward", "diversity"), sampler="nsga2:population=4", trials=8)
    with pytest.raises(UserError, match="neither better high nor low"):
        checked(replace(spec, objectives=("reward", "diversity")))
    swept = sweep(tmp_path, replace(spec, objectives=("reward", "mmd2"), n=24))
    found = [json.loads(values) for values in swept.store.table("trials").objectives]
    assert all(set(values) == {"reward", "mmd2"} for values in found if values)
    assert list(swept.store.table("tuning").objective) == ["reward", "mmd2"]
    from reports.html import build

    assert 'aria-label="Pareto front"' in build(swept.store.folder).read_text()


# -- durability -----------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_interrupted_anywhere_it_gives_the_same_trials(tmp_path, monkeypatch):
    whole = sweep(tmp_path, REAL, "whole")
    plain, chance = Desk.took, random.Random(3)

    def mortal(self, payload):
        if chance.random() < 0.15:
            raise Killed  # before the store heard of it
        plain(self, payload)
        if chance.random() < 0.15:
            raise Killed

    deaths = 0
    with monkeypatch.context() as patch:
        patch.setattr(Desk, "took", mortal)
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
    code = "import sys, time, pathlib; from sweeps.lock import driving\n"
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
    with driving(tmp_path / "s"):  # the lock of the dead is taken over
        pass
    assert sweep(tmp_path, replace(TOY, trials=2)).executed


def in_order(root, order, workers=2):
    """The suggestions when cells end in an order of their own."""
    store = Store(str(root), "s")
    store.open()
    study = Study(TOY, planner(TOY), store, workers)
    desk, open_jobs = Desk([study], store, workers), []
    while not desk.finished:
        while (job := desk.next()) is not None:
            open_jobs.append(job)
        desk.took(open_jobs.pop(order(len(open_jobs))).run())
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


# -- presets and suites ---------------------------------------------------------------------------


def test_a_preset_carries_parameters_and_provenance(tmp_path):
    swept = sweep(tmp_path, replace(TOY, methods=("shift:steps=4",)))
    path, entries = apply(swept.store, "tuned", str(tmp_path))
    assert path == tmp_path / "presets" / "tuned.yaml"
    known = entries["shift"]["provenance"]
    assert known["trial"] == swept.studies[0].best.number and known["unit"] == "paper-nfe"
    content = {"name": "x", "tasks": ["gmm-paper"], "rewards": ["linear"], "budgets": [TOY.budget]}
    content |= {"methods": ["shift@tuned", "prior"], "seeds": [0], "n": 16}
    row, _ = expand(build_suite(content, str(tmp_path)))
    assert row.cell.id in set(swept.store.table("cells").cell)
    assert (
        build_suite({**content, "methods": ["shift@tuned:shift=0.5"]}, str(tmp_path))
        .blocks[0]
        .methods[0]
        .endswith("shift=0.5")
    )
    with pytest.raises(UserError, match="was tuned on seed"):
        build_suite({**content, "seeds": [TUNING_SEED]}, str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'tuned'"):
        presets.resolved("shift@tunde", [0], str(tmp_path))
    with pytest.raises(UserError, match="has no method 'dps'"):
        presets.resolved("dps@tuned", [0], str(tmp_path))


def test_a_suite_tunes_every_method_that_can_be_tuned(tmp_path):
    from bench.runner.run import run_suite
    from sweeps.driver import Silent
    from sweeps.suites import record_tuning, tune_first

    content = {"name": "both", "tasks": ["gmm-paper"], "rewards": ["linear", "inverse"], "n": 16}
    content |= {"budgets": [TOY.budget], "methods": ["exact", "shift", "timid"], "seeds": 1}
    content |= {"tune": {"trials": 10, "objectives": ["reward"], "sampler": "random"}}
    content["tune"]["space"] = {"shift": "-2..2"}
    suite, said = build_suite(content), []
    tuned = tune_first(suite, str(tmp_path), Inline, Silent(), said.append)
    assert [s.spec.methods for s in tuned.sweeps] == [("shift", "timid")] * 2
    assert any("exact" in text for text in said)
    store = Store(str(tmp_path), "both")
    run_suite(tuned.suite, store, Inline, Silent())
    record_tuning(store, tuned)
    table = store.table("tuning")
    assert len(table) == 4 and table.tuned_score.notna().all()
    for block in tuned.suite.blocks:
        assert "exact" in block.methods and "shift" in block.methods
    again = tune_first(suite, str(tmp_path), Inline, Silent())
    assert sum(s.executed for s in again.sweeps) == 0
    from reports.html import build

    assert build(store.folder).read_text().count('id="tuning-') == 2
    from reports.markdown import markdown

    head, _, told = markdown(store.folder).partition("**Tuning: gmm-paper · linear")
    assert "**gmm-paper · inverse" in head and "| optimism |" in told
    assert told.count("| `shift` |") == told.count("| `timid` |") == 2


def test_a_method_without_a_single_good_trial_is_named(tmp_path):
    from sweeps.driver import Silent
    from sweeps.suites import tune_first

    content = {"name": "lost", "tasks": ["gmm-paper"], "rewards": ["linear"], "n": 16}
    content |= {"budgets": [TOY.budget], "methods": ["adrift"], "seeds": 1}
    content |= {"tune": {"trials": 2, "objectives": ["reward"], "sampler": "random"}}
    said = []
    tuned = tune_first(build_suite(content), str(tmp_path), Inline, Silent(), said.append)
    assert tuned.suite.blocks[0].methods == ["adrift"]
    assert any("no trial of adrift on gmm-paper, linear ended with a finite" in t for t in said)
