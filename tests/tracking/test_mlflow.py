"""MLflow shows what the store holds: nothing more, nothing twice, and it can be made again."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from bench.cli.execution import mirror
from bench.cli.main import app
from bench.core.cells import Cell, PlannedFit
from bench.core.params import UserError
from bench.record import layout
from bench.record.attempt import Attempt
from bench.record.store import Store
from bench.record.tables import write_tables
from bench.tracking.artifacts import picture
from bench.tracking.database import connect, tracking_uri
from bench.tracking.live import Follower, training_log
from bench.tracking.mirror import PARENT, rebuild, sync
from tests.worlds import tracked_run
from tests.worlds.tracked_run import (
    PLAN,
    WORK,
    attempt_of,
    dump,
    metric,
    planned,
    runs,
    snapshot,
)

# Fixtures: pytest looks for them in this module.
root, store, template = tracked_run.root, tracked_run.store, tracked_run.template


def test_a_child_per_result_equal_to_the_tables(store):
    report = sync(store)
    (parent,), children = runs(store)
    cells = store.table("cells").set_index("cell")
    assert (report.written, report.failed, len(children)) == (3, 1, 3)
    assert parent.data.tags["tiltbench.run"] == "demo"
    measured = store.table("metrics").dropna(subset="value").groupby("cell")
    for run in children:
        row = cells.loc[run.data.tags["tiltbench.cell"]]
        assert run.data.tags[PARENT] == parent.info.run_id
        given = {"task": "toy", "reward": "flat", "strength": "2.0", "seed": str(row["seed"])}
        own = {f"method.{k}": str(v) for k, v in json.loads(row["params"]).items()}
        coordinates = {"method": row["method"], "budget": row["budget"], "n": "4"}
        assert run.data.params == given | own | coordinates
        assert run.data.metrics["cell_seconds"] == row["cell_seconds"] == 1.5
        if row["status"] == "ok":
            for entry in measured.get_group(row.name).itertuples():
                assert run.data.metrics[entry.metric] == entry.value
                assert run.data.metrics[f"standard_error/{entry.metric}"] == entry.standard_error
            assert run.data.metrics["work/paper-nfe"] == row["paper_nfe"] == 11.5
            assert run.data.metrics["seconds"] == row["seconds"] == 0.5
            assert run.data.metrics["work/seconds"] == 0.125
            assert run.data.metrics["rows/reward_backward"] == 2
            assert run.data.metrics["utilisation"] == row["utilisation"]
            assert run.data.metrics["info/ess"] == 3.5


def test_a_metric_without_a_number_is_no_metric_and_says_why(store):
    sync(store)
    good = next(run for run in runs(store)[1] if run.info.status == "FINISHED")
    assert "judge" not in good.data.metrics
    assert "no number (nan); too few" in good.data.tags["metric.judge"]


def test_times_are_the_recorded_ones(store):
    sync(store)
    (parent,), children = runs(store)
    first = next(run for run in children if run.data.params["seed"] == "0")
    second = next(run for run in children if run.data.params["seed"] == "1")
    assert second.info.end_time - first.info.end_time == 1000
    assert first.info.end_time - first.info.start_time == 1500
    assert (parent.info.start_time, parent.info.end_time) == (
        first.info.start_time,
        second.info.end_time,
    )
    history = connect(store).get_metric_history(second.info.run_id, "curve/ess")
    assert sorted((m.step, m.value) for m in history) == [(0, 4.0), (1, 3.0), (2, 2.0)]
    assert {m.timestamp for m in history} == {second.info.end_time}


def test_a_failed_cell_is_seen(store):
    sync(store)
    (failed,) = (run for run in runs(store)[1] if run.info.status == "FAILED")
    assert failed.data.tags["tiltbench.status"] == "failed"
    assert failed.data.tags["tiltbench.reason"] == "ValueError: no steps"
    assert [f.path for f in connect(store).list_artifacts(failed.info.run_id)] == ["log.txt"]


def test_the_parent_counts_every_row_and_holds_the_tables(store):
    store.write("report.html", b"<html>")
    sync(store)
    ((parent,), _) = runs(store)
    tags = parent.data.tags
    counts = {k: tags[f"tiltbench.status.{k}"] for k in ("ok", "failed", "skipped", "infeasible")}
    assert counts == {"ok": "2", "failed": "1", "skipped": "1", "infeasible": "1"}
    files = {f.path for f in connect(store).list_artifacts(parent.info.run_id)}
    tables = {f"{name}.parquet" for name in ("cells", "metrics", "results")}
    assert files == {"suite.yaml", "report.html"} | tables
    assert (store.folder.parent / "mlartifacts").is_dir()


def test_a_second_sync_writes_nothing(store):
    sync(store)
    before = dump(store.folder.parent)
    report = sync(store)
    assert (report.written, report.unchanged, report.removed) == (0, 3, 0)
    assert dump(store.folder.parent) == before


def test_rebuild_equals_sync_and_leaves_other_runs_alone(store):
    other = Store(str(store.folder.parent), "other's")
    shutil.copytree(store.folder, other.folder)
    sync(store)
    alone = snapshot(store)
    sync(other)
    report = rebuild(store)
    assert (report.written, report.removed) == (3, 3)
    mine = [run for run in snapshot(store) if run["tags"]["tiltbench.run"] == "demo"]
    assert mine == alone
    assert sync(other).unchanged == 3


def test_a_new_metric_or_attempt_replaces_the_child_alone(store):
    sync(store)
    kept = {run.info.run_id for run in runs(store)[1]}
    store.index.add_metrics(PLAN[0].id, [metric("reward", 9.0, version="10")])
    store.index.add_metrics(PLAN[0].id, [metric("reward", 7.0, version="2")])
    store.index.save(PLAN[2].cell, attempt_of(PLAN[2]))
    write_tables(store, PLAN)
    report = sync(store)
    assert (report.written, report.unchanged, report.failed) == (2, 1, 0)
    (parent,), children = runs(store)
    assert len(children) == 3
    assert len(kept & {run.info.run_id for run in children}) == 1
    again = next(run for run in children if run.data.tags["tiltbench.cell"] == PLAN[0].id)
    assert again.data.metrics["reward"] == 9.0
    assert parent.data.tags["tiltbench.status.failed"] == "0"


def test_a_row_that_left_the_suite_leaves_mlflow(store):
    sync(store)
    write_tables(store, PLAN[1:])
    assert sync(store).removed == 1
    assert len(runs(store)[1]) == 2


def test_a_child_that_was_interrupted_is_written_again(store):
    sync(store)
    _, children = runs(store)
    connect(store).update_run(children[0].info.run_id, "RUNNING")
    assert sync(store).written == 1
    assert len(runs(store)[1]) == 3


def test_names_and_values_that_mlflow_would_refuse_or_change(store):
    row = planned("odd", **{"a@b[0]": "x" * 7000})
    points = [{"step": k, "loss@": float(k)} for k in range(1500)]
    strange = [metric("fid@[2]", 2.0), metric("log_z", math.inf)]
    store.index.save(row.cell, attempt_of(row, curve=points, metrics=strange))
    write_tables(store, [row])
    sync(store)
    _, (run,) = runs(store)
    value = run.data.params["method.a_b_0_"]
    assert value.startswith("sha256:")
    assert "7000 characters" in value
    assert run.data.metrics["fid__2_"] == 2.0
    assert "log_z" not in run.data.metrics
    assert "no number (inf)" in run.data.tags["metric.log_z"]
    history = connect(store).get_metric_history(run.info.run_id, "curve/loss_")
    assert sorted(m.step for m in history) == list(range(1500))


def test_batches_of_a_curve_are_averaged(store):
    row = planned("batched")
    points = [{"step": 0, "ess": 1.0}, {"step": 0, "ess": 2.0}]
    store.index.save(row.cell, attempt_of(row, curve=points))
    write_tables(store, [row])
    sync(store)
    _, (run,) = runs(store)
    history = connect(store).get_metric_history(run.info.run_id, "curve/ess")
    assert [(m.step, m.value) for m in history] == [(0, 1.5)]


def test_pictures():
    from matplotlib.image import imread

    def drawn(**tensors: np.ndarray) -> np.ndarray:
        import io

        return imread(io.BytesIO(picture(save(tensors))))

    x = np.zeros((10, 3), np.float32)
    black = np.zeros((10, 8, 8, 3), np.uint8)
    grid = drawn(x=x, rendered=black)
    assert grid.shape[:2] == (2 * 10 * 6, 8 * 10 * 6)
    ink = (grid[..., 0] < 0.5).mean() * grid.shape[0] * grid.shape[1]
    assert ink == 10 * (8 * 6) ** 2
    large = drawn(x=x, rendered=np.zeros((20, 100, 100, 3), np.uint8))
    assert large.shape[:2] == (4 * 102, 4 * 102)
    weighted = drawn(x=np.eye(10, dtype=np.float32), log_weight=np.arange(10, dtype=np.float32))
    assert weighted.shape[:2] == (320, 320)
    assert picture(save({"x": np.zeros((4, 1), np.float32)})) is None


def test_a_run_can_be_followed_and_the_final_sync_adds_nothing(store):
    follower = Follower(store, every=0.0)
    for row in PLAN[:2]:
        follower(row, attempt_of(row))
    (parent,), children = runs(store)
    assert (parent.info.status, len(children)) == ("RUNNING", 2)
    report = sync(store)
    assert (report.written, report.unchanged) == (1, 2)
    assert runs(store)[0][0].info.status == "FINISHED"


def test_following_waits(store):
    follower = Follower(store, every=3600.0)
    follower(PLAN[0], attempt_of(PLAN[0]))
    assert follower.mirror is None


def test_a_broken_database_never_ends_a_run(store, capsys):
    (store.folder.parent / "mlflow.db").write_bytes(b"not a database, but long enough" * 100)
    follower = Follower(store, every=0.0)
    for row in PLAN[:2]:
        follower(row, attempt_of(row))
    warning = capsys.readouterr().err
    assert warning.count("MLflow no longer follows 'demo'") == 1
    with pytest.raises(UserError, match="cannot write to MLflow at sqlite"):
        sync(store)


@pytest.mark.parametrize("name", [layout.CURVE, layout.LOG, layout.SAMPLES])
def test_what_is_damaged_is_left_out_and_said(store, name):
    (place, *_) = sorted(store.folder.glob(f"cells/*/attempts/*/{name}"))
    place.write_bytes(b"something else")
    done = CliRunner().invoke(app, ["track", "sync", str(store.folder)])
    assert done.exit_code == 0 and len(runs(store)[1]) == 3
    said = place.relative_to(store.folder).as_posix()
    assert f"warning: Damaged: {said} does not match its checksum" in done.stderr


def test_a_run_says_what_mlflow_does_without(store, capsys):
    (place, *_) = sorted(store.folder.glob(f"cells/*/attempts/*/{layout.CURVE}"))
    place.unlink()
    mirror(store)
    said = place.relative_to(store.folder).as_posix()
    assert f"warning: Damaged: {said} is missing. What is damaged" in capsys.readouterr().err
    mirror(store)
    assert capsys.readouterr().err == "", "what was said once is not said again"


def test_tracking_uri_is_respected(store, tmp_path, template, monkeypatch):
    assert tracking_uri(store) == f"sqlite:///{tmp_path}/mlflow.db"
    before = dump(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(template, tmp_path / "elsewhere" / "their.db")
    given = f"sqlite:///{tmp_path}/elsewhere/their.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of a database it was not told of
    assert sync(store).uri == given
    assert connect(store).get_experiment_by_name("mine") is not None
    assert dump(tmp_path) == before


def test_sentences_instead_of_tracebacks(store, tmp_path, monkeypatch):
    sync(store)
    bare = Store(str(tmp_path), "bare")
    bare.open()
    with pytest.raises(UserError, match="no tables yet"):
        sync(bare)
    moved = tmp_path / "moved"
    shutil.copytree(store.folder, moved / "demo")
    shutil.copy(tmp_path / "mlflow.db", moved)
    with pytest.raises(UserError, match="was moved here from"):
        sync(Store(str(moved), "demo"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(UserError, match="MLflow is not installed"):
        sync(store)


def test_a_training_goes_on_in_the_run_it_had_begun(store, monkeypatch, capsys):
    monkeypatch.setenv("TILTBENCH_ROOT", str(store.folder.parent))
    training_log("train toy")("flow", 1, {"loss": 2.0})
    log = training_log("train toy")
    log("flow", 2, {"loss": 1.0})
    log.close()
    ((run,), _) = runs(store)
    history = connect(store).get_metric_history(run.info.run_id, "flow/loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 2.0), (2, 1.0)]
    assert run.info.status == "FINISHED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://")
    training_log("train toy")("flow", 3, {"loss": 0.5})
    assert "no longer follows 'train toy'" in capsys.readouterr().err


def test_commands(store):
    run = str(store.folder)
    result = CliRunner().invoke(app, ["track", "sync", run])
    assert "3 cells written" in result.output
    result = CliRunner().invoke(app, ["track", "rebuild", run])
    assert "3 cells written, 0 unchanged, 3 removed, 1 failed" in result.output
    refused = CliRunner().invoke(app, ["ui", "--root", f"{run}/nothing"])
    assert isinstance(refused.exception, UserError)


@pytest.mark.slow
def test_the_interface_answers(store):
    sync(store)
    result = CliRunner().invoke(app, ["ui", str(store.folder), "--port", "5917", "--check"])
    assert "MLflow answers at http://127.0.0.1:5917" in result.output


def test_a_fit_is_a_logged_model_and_is_written_once(root):
    made = Store(str(root), "tuned")
    made.open()
    made.save_suite({"name": "tuned", "description": "a fit", "blocks": []})
    cell = Cell("toy", {}, "flat", {}, 2.0, None, "learn", {"iterations": 5}, 0, 0, 1, {}, {})
    fit = replace(cell, part="fit")
    weights = save({"w": np.ones((2, 2), np.float32)})
    spent = {"paper-nfe": 40.0, "model-nfe": 20.0, "flops": 0.0}
    made.index.save(fit, Attempt(fit.id, "ok", costs=spent, work=WORK.flat(), fitted=weights))
    row = replace(planned("learn"), fit=PlannedFit(fit, WORK, 40.0))
    row = replace(row, cell=replace(row.cell, fit=fit.id))
    made.index.save(row.cell, attempt_of(row))
    write_tables(made, [row])
    sync(made)
    sync(made)
    client = connect(made)
    (model,) = client.search_logged_models(["1"])
    assert str(model.status) == "READY"
    assert model.params["iterations"] == "5" and model.params["fit paper-nfe"] == "40"
    folder = Path(model.artifact_location)
    assert (folder / "fitted.safetensors").read_bytes() == weights
    assert json.loads((folder / "cell.json").read_text())["part"] == "fit"
    again = {"w": np.zeros((2, 2), np.float32)}
    made.index.save(fit, Attempt(fit.id, "ok", costs=spent, work=WORK.flat(), fitted=save(again)))
    sync(made)
    (newer,) = client.search_logged_models(["1"])
    assert newer.model_id != model.model_id and newer.tags["tiltbench.attempt"] == "2"
