"""What somebody sees who opens MLflow: a named suite with its figures, wherever it was copied."""

import shutil
import urllib.parse
from pathlib import Path

import pytest

from bench.cli import ui
from bench.core.params import UserError
from bench.record.lock import driving
from bench.record.store import Store
from bench.record.tables import write_tables
from bench.tracking.database import connect
from bench.tracking.mirror import Mirror, sync
from tests.worlds import tracked_run as shown
from tests.worlds.tracked_run import PLAN, planned, runs

# Fixtures: pytest looks for them in this module.
template, root, store = shown.template, shown.root, shown.store


def test_a_parent_says_what_was_compared_and_has_a_figure_per_method(store):
    sync(store)
    ((parent,), _) = runs(store)
    assert parent.info.run_name == "demo · toy/flat · paper-nfe=20"
    assert parent.data.params == {
        "task": "toy", "reward": "flat", "strength": "2", "budget": "paper-nfe=20",
        "seed": "0, 1", "n": "4", "methods": "4",
    }  # fmt: skip
    assert parent.data.metrics == {"reward/prior": pytest.approx((1.25 + 2.25) / 2)}
    (point,) = connect(store).get_metric_history(parent.info.run_id, "reward/prior")
    assert point.step == 20


def test_a_suite_that_has_grown_shows_its_new_parameters(store):
    sync(store)
    write_tables(store, [*PLAN, planned("prior", seed=2, steps=10)])
    report = sync(store)
    (parent,), children = runs(store)
    assert parent.data.params["seed"] == "0, 1, 2"
    assert (report.written, report.unchanged) == (0, 3)
    assert {run.data.tags[shown.PARENT] for run in children} == {parent.info.run_id}


def test_an_interrupted_suite_is_not_green(store):
    write_tables(store, [*PLAN, planned("prior", seed=2, steps=10)])
    Mirror(store).reopen()
    sync(store)
    assert runs(store)[0][0].info.status == "KILLED"
    with driving(store.folder):
        sync(store)
        assert runs(store)[0][0].info.status == "RUNNING"
    write_tables(store, PLAN)
    sync(store)
    assert runs(store)[0][0].info.status == "FINISHED"


def test_no_zero_and_no_tag_says_nothing(store):
    sync(store)
    good = next(run for run in runs(store)[1] if run.info.status == "FINISHED")
    rows = {name: value for name, value in good.data.metrics.items() if name.startswith("rows/")}
    assert rows == {"rows/flow_forward": 40, "rows/reward_forward": 4, "rows/reward_backward": 2}
    assert "work/fit-paper-nfe" not in good.data.metrics
    assert "metric.reward" not in good.data.tags
    assert not any(value in ("", "nan", "None") for value in good.data.tags.values())


def test_artifacts_are_found_where_a_folder_was_copied_to(store, tmp_path, monkeypatch):
    sync(store)
    copy = tmp_path.parent / f"{tmp_path.name}-copied"
    shutil.copytree(tmp_path, copy)
    for name in ("mlartifacts", "demo"):
        shutil.rmtree(tmp_path / name)
    there = Store(str(copy), "demo")
    assert sync(there).unchanged == 3
    for run in [run for kind in runs(there) for run in kind]:
        assert Path(run.info.artifact_uri).is_relative_to(copy)
        assert connect(there).list_artifacts(run.info.run_id)
    assert not (tmp_path / "mlartifacts").exists(), "nothing is written where it used to be"


def test_the_interface_opens_on_the_experiment(store):
    sync(store)
    _, place = ui._shown(None, str(store.folder.parent))
    assert place == "#/experiments/1/runs"


def test_a_copied_run_is_tracked_and_selected(store, tmp_path, capsys):
    other = tmp_path / "elsewhere"
    shutil.copytree(store.folder, other / "demo")
    shutil.copy(tmp_path / "mlflow.db", other)  # empty, but its making costs seconds
    uri, place = ui._shown(str(other / "demo"), "runs")
    assert uri == f"sqlite:///{other}/mlflow.db"
    assert "3 cells written" in capsys.readouterr().out
    before, _, query = place.partition("?searchFilter=")
    found = connect(Store(str(other), "demo")).search_runs(["1"], urllib.parse.unquote(query))
    assert before == "#/experiments/1/runs"
    assert len(found) == 4


def test_runs_below_a_folder_without_a_database_are_tracked(store, tmp_path, monkeypatch, capsys):
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setattr(ui, "_sync", lambda store: print(f"synced {store.name}"))
    ui._shown(None, str(tmp_path))
    assert capsys.readouterr().out == "synced demo\n"
    with pytest.raises(UserError, match="nothing to show"):
        ui._shown(None, str(tmp_path / "nowhere"))
