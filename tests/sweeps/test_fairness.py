"""Sweeps are fair: never a way to buy compute or another target law."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from bench.api import Task
from bench.core.params import UserError
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.store import Store
from sweeps.space import parse_change
from sweeps.spec import TUNING_SEED, check_conditions, check_disjoint, checked
from sweeps.study import Study
from tests.worlds import toy_sweeps
from tests.worlds.toy_sweeps import REAL, TOY, planner, sweep

# A fixture: pytest looks for it in this module.
registered = toy_sweeps.registered


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


@pytest.mark.parametrize(
    ("method", "task", "reward", "tried"),
    [
        ("dps", "gmm-paper", "inverse", False),  # the density reaches 0.69
        ("dps:best=0.7", "gmm-paper", "inverse", True),
        ("dps", "gmm-paper", "linear", False),  # grows without end
        ("dps", "gmm-paper", "quadratic", True),
        ("dps", "digits", "inpaint", True),
        ("dps", "digits", "template", False),
    ],
)
def test_scales_that_need_the_rewards_best_are_tried_where_it_is_known(method, task, reward, tried):
    spec = replace(REAL, methods=(method,), task=task, reward=reward, budget="paper-nfe=80")
    scales = axes(replace(spec, space={}))["scale"].choices
    assert ("residual" in scales, "residual-mean" in scales) == (tried, tried)
    assert {"exact", "rescale", "clip", "value", "fixed-norm"} <= set(scales)


def test_a_scale_that_is_asked_for_is_tried():
    spec = replace(REAL, methods=("dps",), budget="paper-nfe=80", space={})
    assert axes(spec, scale="exact|residual")["scale"].choices == ("exact", "residual")


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
    from reports.data.run import load_run
    from reports.html import write_page

    page = write_page(swept.store.folder).read_text()
    assert 'id="tuning"' in page and "optimism" in page
    assert set(load_run(swept.store.folder).cells.seed) == {0}
