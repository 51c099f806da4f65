"""What comes out of a sweep: failures told as such, fronts, presets, suites tuned first."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from bench.core.params import UserError
from bench.plan import presets
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from reports.tables import sweep as report
from sweeps.apply import apply
from sweeps.cell_ends import CellEnds
from sweeps.dashboard import SQLITE
from sweeps.samplers import GP, TPE
from sweeps.spec import TUNING_SEED, checked
from tests.worlds import toy_sweeps
from tests.worlds.toy_sweeps import TOY, sweep

# A fixture: pytest looks for it in this module.
registered = toy_sweeps.registered


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
        study_name=study.id, storage=f"sqlite:///{swept.store.folder / SQLITE}"
    )
    told = [trial.state.name.lower() for trial in stored.trials]
    assert {s: told.count(s) for s in set(told)} == states


def test_an_objective_that_is_not_finite_is_pruned(tmp_path, monkeypatch):
    plain = CellEnds.remember

    def poisoned(self, cell, attempt, metrics):
        bad = cell.method_params["shift"] > 0
        plain(self, cell, attempt, [replace(m, value=math.nan) if bad else m for m in metrics])

    monkeypatch.setattr(CellEnds, "remember", poisoned)
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
    from reports.html import write_page

    assert 'aria-label="Pareto front"' in write_page(swept.store.folder).read_text()


# -- presets and suites ---------------------------------------------------------------------------


def test_a_preset_carries_parameters_and_provenance(tmp_path):
    swept = sweep(tmp_path, replace(TOY, methods=("shift:steps=4",)))
    path, entries = apply(swept.store, "tuned", str(tmp_path))
    assert path == tmp_path / "presets" / "tuned.yaml"
    known = entries["shift"]["provenance"]
    assert known["trial"] == swept.studies[0].best.number and known["unit"] == "paper-nfe"
    content = {"name": "x", "tasks": ["gmm-paper"], "rewards": ["linear"], "budgets": [TOY.budget]}
    content |= {"methods": ["shift@tuned", "prior"], "seeds": [0], "n": 16}
    suite = build_suite(content, str(tmp_path))
    row, untuned = expand(suite)
    assert row.cell.id in set(swept.store.table("cells").cell)
    stored = suite.model_dump()  # what a run keeps says what ran, and what it was called
    assert stored["presets"] == {row.method_label: "shift@tuned"}
    assert (row.preset, untuned.preset) == ("shift@tuned", "")
    assert expand(build_suite(stored))[0] == row
    assert "presets" not in build_suite({**content, "methods": ["prior"]}).model_dump()
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
    from sweeps.tuned_suites import record_tuning, tune_first

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
    from reports.html import write_page

    assert write_page(store.folder).read_text().count('id="tuning-') == 2
    from reports.tables.markdown import markdown

    head, _, told = markdown(store.folder).partition("**Tuning: gmm-paper · linear")
    assert "**gmm-paper · inverse" in head and "| optimism |" in told
    assert told.count("| `shift` |") == told.count("| `timid` |") == 2


def test_a_method_without_a_single_good_trial_is_named(tmp_path):
    from sweeps.driver import Silent
    from sweeps.tuned_suites import tune_first

    content = {"name": "lost", "tasks": ["gmm-paper"], "rewards": ["linear"], "n": 16}
    content |= {"budgets": [TOY.budget], "methods": ["adrift"], "seeds": 1}
    content |= {"tune": {"trials": 2, "objectives": ["reward"], "sampler": "random"}}
    said = []
    tuned = tune_first(build_suite(content), str(tmp_path), Inline, Silent(), said.append)
    assert tuned.suite.blocks[0].methods == ["adrift"]
    assert any("no trial of adrift on gmm-paper, linear ended with a finite" in t for t in said)


def test_the_page_says_what_so_few_trials_cannot():
    states = ["complete"] * 6 + ["fail"]
    trials = pd.DataFrame({"method": ["dps"] * 7, "state": states})
    notes = " ".join(report._notes(trials, pd.DataFrame()))
    assert "rest on 6 of `dps` trials" in notes and "of 7 trials, 1 fail" in notes
    enough = pd.DataFrame({"method": ["dps"] * report.ENOUGH, "state": "complete"})
    assert not list(report._notes(enough, pd.DataFrame()))
    assert {TPE().startup, GP().startup} == {report.STARTUP}
