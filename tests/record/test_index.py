"""The index of a run: every cell is listed and read at most once, whatever a command asks."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core import plugins
from bench.core.work import Rows, Work
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record import layout
from bench.record.attempt import Attempt, MetricRow, lost
from bench.record.files import RunFiles
from bench.record.store import Store
from bench.record.tables import write_tables
from bench.runner.measuring import wanted_metrics
from bench.runner.run import run_suite

CONTENT = {
    "name": "stored",
    "tasks": ["gmm-paper"],
    "rewards": ["linear"],
    "methods": ["prior:steps=2"],
    "budgets": ["none"],
    "seeds": 1000,
    "n": 4,
}
KEYS = [f"{name}@{plugins.load('metrics', name).version}" for name in wanted_metrics("gmm-paper")]


def ended(cell: str, status: str = "ok", **more: object) -> Attempt:
    rows = tuple(MetricRow(*key.split("@"), value=1.0, n=4) for key in KEYS)
    work = Work(flow=Rows(8.0), seconds=0.1).flat()
    return Attempt(cell, status, work=work, costs={"paper-nfe": 2.0}, metrics=rows, **more)


@pytest.fixture
def counts(monkeypatch) -> Counter[str]:
    """How often each folder is listed and each file is read or looked for."""
    seen: Counter[str] = Counter()

    def counted(name: str) -> None:
        own = getattr(RunFiles, name)

        def method(self: RunFiles, file: str) -> object:
            seen[file] += 1
            return own(self, file)

        monkeypatch.setattr(RunFiles, name, method)

    for name in ("read", "has", "names"):
        counted(name)
    return seen


@pytest.fixture
def stored(tmp_path) -> Store:
    """A run of a thousand cells, all of them done."""
    store, suite = Store(str(tmp_path), "stored"), build_suite(CONTENT)
    store.open()
    plan = expand(suite)
    for row in plan:
        store.index.save(row.cell, ended(row.id))
    write_tables(store, plan)
    assert len(plan) == 1000
    return store


class Silent:
    def begin(self, total, workers):
        raise AssertionError("nothing is to be run")

    def finished(self, row, attempt):
        raise AssertionError("nothing is to be run")


def of_cells(counts: Counter[str]) -> list[tuple[str, int]]:
    return [(file, count) for file, count in counts.items() if file.startswith(f"{layout.CELLS}/")]


def test_a_second_run_lists_and_reads_each_cell_once(stored, counts, tmp_path):
    again = Store(str(tmp_path), "stored")
    outcome = run_suite(build_suite(CONTENT), again, lambda: None, Silent())
    assert outcome.cached == 1000 and outcome.statuses == {"ok": 1000}
    files = of_cells(counts)
    assert max(count for _, count in files) == 1
    listed = [file for file, _ in files if file.endswith("attempts")]
    assert len(listed) == 1000 and len(files) == 2000  # and one result of each


def test_planning_reads_each_cell_once(stored, counts, tmp_path):
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps(CONTENT))
    done = CliRunner().invoke(app, ["plan", str(suite), "--root", str(tmp_path), "--json"])
    assert {row["status"] for row in json.loads(done.stdout)} == {"ok"}
    assert max(count for _, count in of_cells(counts)) == 1


def test_tables_read_each_file_once(stored, counts, tmp_path):
    again = Store(str(tmp_path), "stored")
    write_tables(again, expand(build_suite(CONTENT)))
    files = of_cells(counts)
    assert max(count for _, count in files) == 1
    assert len(files) == 4000  # a listing, a result, the metrics, and scores that are not there


def test_a_remote_run_is_read_alike(counts):
    store = Store("memory://runs", "stored")
    cell = expand(build_suite(CONTENT | {"seeds": 1}))[0].cell
    store.index.save(cell, ended(cell.id, reason="here"))
    counts.clear()
    again = Store("memory://runs", "stored")
    for _ in range(3):
        found = again.index.last(cell.id)
        assert found is not None and found.attempt.reason == "here"
        assert set(again.index.metrics(cell.id)) == set(KEYS)
    assert max(count for _, count in of_cells(counts)) == 1


@pytest.fixture
def one(tmp_path):
    store = Store(str(tmp_path), "one")
    store.open()
    return store, expand(build_suite(CONTENT | {"seeds": 1}))[0].cell


def test_what_was_saved_is_what_is_read(one, tmp_path):
    store, cell = one
    attempt = ended(cell.id, info={"ess": 2.5}, curve=({"step": 0, "loss": 1.0},), log="said")
    assert store.index.save(cell, attempt) == 1
    for index in (store.index, Store(str(tmp_path), "one").index):
        found = index.last(cell.id)
        assert found is not None and found.number == 1
        kept = replace(attempt, metrics=(), curve=(), log="", measured=tuple(KEYS))
        assert found.attempt == replace(
            kept, measured=found.attempt.measured, files=found.attempt.files
        )
        assert set(found.attempt.measured) == set(KEYS)
        assert set(index.metrics(cell.id).values()) == set(attempt.metrics)
        assert list(index.metrics(cell.id)) == sorted(KEYS)


def test_a_good_attempt_is_preferred_and_keeps_its_metrics(one, tmp_path):
    store, cell = one
    store.index.save(cell, lost(cell.id, "gone"))
    store.index.save(cell, ended(cell.id))
    store.index.save(cell, Attempt(cell.id, "failed", "later"))
    for index in (store.index, Store(str(tmp_path), "one").index):
        found = index.last(cell.id)
        assert found is not None and found.number == 2 and found.ok
        assert set(index.metrics(cell.id)) == set(KEYS)


def test_metrics_are_added_to_the_last_attempt_alone(one, tmp_path):
    store, cell = one
    store.index.save(cell, ended(cell.id))
    store.index.add_metrics(cell.id, [MetricRow("new", "3", value=0.5)])
    for index in (store.index, Store(str(tmp_path), "one").index):
        assert index.measured(cell.id) == {*KEYS, "new@3"}
        assert index.metrics(cell.id)["new@3"].value == 0.5


def test_records_of_the_first_schema_are_read(one, tmp_path):
    """They say nothing of what was measured, and their metrics nothing of what classes declare."""
    store, cell = one
    store.index.save(cell, ended(cell.id))
    result = layout.attempt(cell.id, 1, layout.RESULT)
    plain = json.loads(store.read(result))
    del plain["measured"], plain["files"], plain["sha256"]
    store.write(result, json.dumps(plain).encode())
    rows = json.loads(store.read(layout.metrics_file(cell.id)))
    del rows["sha256"]
    old = {
        k: {n: v for n, v in row.items() if n not in ("rank", "summary")} for k, row in rows.items()
    }
    store.write(layout.metrics_file(cell.id), json.dumps(old).encode())
    index = Store(str(tmp_path), "one").index
    assert index.measured(cell.id) == set(KEYS)
    assert {row.rank for row in index.metrics(cell.id).values()} == {1000}


def test_an_attempt_without_a_result_never_happened(one, tmp_path):
    store, cell = one
    store.write(layout.attempt(cell.id, 1, layout.SAMPLES), b"half")
    assert Store(str(tmp_path), "one").index.last(cell.id) is None
    assert Store(str(tmp_path), "one").index.save(cell, ended(cell.id)) == 2


def test_what_a_killed_driver_left_of_an_ended_cell_is_removed(tmp_path):
    suite = build_suite(CONTENT | {"seeds": 2})
    store = Store(str(tmp_path), "stored")
    store.open()
    done, open_still = (row.cell for row in expand(suite) if row.cell.method == "prior")
    store.index.save(done, ended(done.id))
    for cell in (done, open_still):
        store.write(f"{layout.work(cell.id)}/x.shard", b"kept")
    Store(str(tmp_path), "stored").index.forget_ended()
    assert store.names(layout.WORK) == [open_still.id]
