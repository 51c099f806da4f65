"""Sweeps of methods that fit: the length of the fit is matched, and the fit is paid for once."""

import json
from dataclasses import replace

import pytest

from bench.core.params import UserError
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.pilots import Pilots
from sweeps.driver import run_sweep
from sweeps.planner import Planner
from sweeps.spec import TUNING_SEED
from tests.worlds.small_sweep import small_sweep

FIT = 12000.0
SMALL = {"ema": "off", "clip": "off", "start": "off", "batch": "16..512:log"}


def spec(method, **changes):
    space = {**SMALL, **({"draws": "1..8", "inner_steps": "off"} if method == "mfm-ft" else {})}
    asked = small_sweep(method, f"paper-nfe=20:fit={FIT:g}", trials=5, space=space)
    return replace(asked, **changes)


@pytest.mark.parametrize("method", ["itm", "mfm-ft"])
def test_a_fitting_method_is_tuned_and_tuning_never_buys_a_longer_fit(tmp_path, method):
    asked = spec(method)
    swept = run_sweep(asked, Store(str(tmp_path), "s"), Inline)
    (study,) = swept.studies
    axes = {axis.name for axis in study.planner.space.axes}
    assert {"learning_rate", "batch"} <= axes and not axes & {"iterations", "steps", "fit_seed"}
    fitted = [t for t in study.trials if study.outcome(t).state == "complete"]
    assert study.trials[0] in fitted and len(fitted) > 1
    assert len({t.row.fit.matched["iterations"] for t in fitted}) > 1
    for trial in fitted:
        fit = trial.row.fit
        assert fit.cell.seed == TUNING_SEED  # not the seed of the fits that are reported
        one = study.planner.method.with_params(
            **{**trial.params, "iterations": 1} if trial.number else {"iterations": 1}
        )
        step = one.fit_work(study.planner.bound.spec).cost("paper-nfe")
        assert fit.cost <= FIT < fit.cost + step
        assert study.spent([trial]) <= FIT + 20 * asked.n
        assert study.spent([trial]) >= fit.cost


@pytest.mark.parametrize("method", ["itm", "mfm-ft"])
def test_the_tuned_configuration_is_fitted_again_on_a_reporting_seed(tmp_path, method):
    swept = run_sweep(spec(method), Store(str(tmp_path), "s"), Inline)
    (study,) = swept.studies
    (row,) = swept.store.table("tuning").to_dict("records")
    cells = swept.store.table("cells")
    reported = cells[cells.seed < TUNING_SEED]
    assert {method, study.best.label} == set(reported.method)
    assert set(reported.status) == {"ok"} and row["tuned_score"] == row["tuned_score"]
    tuning = {t.row.fit.id for t in study.trials if t.row is not None}
    assert not tuning & set(reported.fit)
    assert all(json.loads(p)["fit_seed"] == 0 for p in reported.params)
    assert run_sweep(spec(method), Store(str(tmp_path), "s"), Inline).executed == 0


def test_tuning_work_includes_the_fits_and_ends_where_it_was_asked_to(tmp_path):
    asked = spec("itm", trials=8)
    (study,) = run_sweep(asked, Store(str(tmp_path), "s"), Inline, report=False).studies
    assert study.total == 8 * (20 * asked.n + FIT)
    assert study.work <= 1.05 * study.total


def test_scores_of_reports_leave_the_tuning_cells_out(tmp_path):
    """Methods without a fit have the same label in trials and in reports."""
    guidance = {"guidance": "0.1..10:log", "scale": "off", "start": "off"}
    asked = spec("dps", budget="paper-nfe=40", space=guidance)
    swept = run_sweep(asked, Store(str(tmp_path), "s"), Inline)
    (row,) = swept.store.table("tuning").to_dict("records")
    results = swept.store.table("results").query("metric == 'reward'")
    shared = results[results.method == row["tuned"]]
    assert {0, TUNING_SEED} <= set(shared.seed)
    assert row["tuned_score"] == shared[shared.seed < TUNING_SEED].value.mean()
    labels = [trial.row.method_label for trial in swept.studies[0].trials]
    again = run_sweep(asked, Store(str(tmp_path), "s"), Inline)
    assert labels == [trial.row.method_label for trial in again.studies[0].trials]


def test_axes_end_where_the_shortest_fit_would_not_be_afforded():
    planner = Planner(spec("mfm-ft", space={}), "mfm-ft", Pilots())
    axes = {axis.name: axis for axis in planner.space.axes if axis.kind == "int"}
    assert set(axes) == {"batch", "draws", "inner_steps"}
    for name, axis in axes.items():
        for value, affordable in ((int(axis.high), True), (int(axis.high) + 1, False)):
            method = planner.method.with_params(iterations=1, **{name: value})
            cost = method.fit_work(planner.bound.spec).cost("paper-nfe")
            assert (cost <= FIT) == affordable, (name, value)


def test_without_a_budget_for_the_fit_tuning_could_buy_compute():
    with pytest.raises(UserError, match="needs a budget for the fit"):
        _ = Planner(spec("itm", budget="paper-nfe=20"), "itm", Pilots()).space


def test_trials_run_side_by_side_and_share_no_fits():
    """A batch that is tuned need not be one that workers can share."""
    planner = Planner(spec("itm", resources={"workers": 4.0}), "itm", Pilots())
    row = planner.row({"batch": 13})
    assert row.fit.cell.method_params["batch"] == 13 and "workers" not in row.fit.cell.resources
