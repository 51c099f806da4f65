"""The store in MLflow: a projection that can be deleted and made again at any time.

    bench track sync runs/quickstart

One experiment, one parent run per suite, one child run per row of cells.parquet with a result.
A run's driver is the only writer.  Children carry a hash of what they show, so that a second sync
writes nothing, and a cell that was run or measured again replaces its child.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import itertools
import logging
import os
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.params import UserError
from bench.runner.cells import Planned
from bench.runner.execute import Payload
from bench.runner.store import Store
from bench.runner.tables import _cell_row, outcome_of
from bench.tracking_artifacts import (
    Record,
    clean,
    make_record,
    read_curve,
    read_files,
    read_records,
)

SQLITE = "sqlite:///"
PARENT = "mlflow.parentRunId"
RUN, CELL, ROW, ATTEMPT, CONTENT = (
    f"tiltbench.{tag}" for tag in ("run", "cell", "row", "attempt", "content")
)
STATUS = "tiltbench.status."
ON_PARENT = ("suite.yaml", "cells.parquet", "results.parquet", "report.html")

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for tables and for --json
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 would hold the driver up for four minutes
}


@dataclass(frozen=True)
class SyncReport:
    """What a sync did; `failed` of the cells that MLflow now shows ended badly."""

    uri: str
    parent: str
    written: int
    unchanged: int
    removed: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.written} cells written, {self.unchanged} unchanged, {self.removed} removed, "
            f"{self.failed} failed; {self.seconds:.1f} s; {self.uri}"
        )


def sync(store: Store) -> SyncReport:
    """Bring MLflow up to date with the run's tables; what is there already is not written again."""
    with _one_sentence(store):
        return _project(store, read_records(store))


def rebuild(store: Store) -> SyncReport:
    """Delete this run, and no other, from MLflow and project it anew."""
    with _one_sentence(store):
        records = read_records(store)
        removed = Mirror(store).clear()
        report = _project(store, records)
        return replace(report, removed=report.removed + removed)


def _project(store: Store, records: list[Record]) -> SyncReport:
    clock = time.perf_counter()
    mirror = Mirror(store, min((r.started for r in records if r.started), default=None))
    written = sum(map(mirror.put, records))
    removed = mirror.keep_only({record.row for record in records})
    mirror.finish(max((r.finished for r in records if r.finished), default=None))
    return SyncReport(
        uri=tracking_uri(store),
        parent=mirror.parent,
        written=written,
        unchanged=len(records) - written,
        removed=removed,
        failed=sum(not record.ok for record in records),
        seconds=time.perf_counter() - clock,
    )


@contextlib.contextmanager
def _one_sentence(store: Store) -> Iterator[None]:
    """MLflow's own errors, for people; a mistake of ours keeps its traceback."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if package not in ("mlflow", "sqlalchemy", "sqlite3") and not isinstance(error, OSError):
            raise
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot write to MLflow at {tracking_uri(store)}: {reason}") from error


# -- where ---------------------------------------------------------------------------------------


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI, or else the database beside the run's folder."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    if not store.local:
        raise UserError(f"{store.path} is not on this machine: set MLFLOW_TRACKING_URI")
    return f"{SQLITE}{_database(store)}"


def _database(store: Store) -> Path:
    return store.folder.parent / "mlflow.db"


def _ours() -> bool:
    """Whether the database is ours to create and to tune, rather than one that was named."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def connect(store: Store) -> Any:
    """A quiet MLflow client of the run's tracking URI; our own database is made if missing."""
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UserError("MLflow is not installed: 'pip install mlflow', or --no-track") from error
    for name in ("alembic", "mlflow"):
        # Errors are raised too, and told in one sentence.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = tracking_uri(store)
    if _ours():
        create_database(_database(store), MlflowClient)
    return MlflowClient(tracking_uri=uri)


def create_database(path: Path, client: Callable[..., Any]) -> None:
    """Migrate a new database beside its place: processes that open a new one at once break it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _hurry(path.parent.resolve())
    if path.exists():
        _probe(path)
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _probe(partial)
    client(tracking_uri=f"{SQLITE}{partial}").search_experiments(max_results=1)
    if path.exists():
        partial.unlink()
    else:
        partial.replace(path)


def _probe(path: Path) -> None:
    """Fail at once where MLflow tries for 100 seconds: not a database, or no place for one."""
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.rollback()


@functools.cache
def _hurry(folder: Path) -> None:
    """Let databases in a folder commit without waiting for the disk.

    MLflow commits six times per cell, 10 ms each.  A killed process loses nothing by this; after a
    power cut the file may have to be deleted and rebuilt from the store, which is the record.
    """
    from sqlalchemy import Engine, event

    def relax(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            file = connection.execute("PRAGMA database_list").fetchone()[2]
            if Path(file).resolve().parent == folder:
                connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", relax)


def _experiment(client: Any, store: Store) -> str:
    """The id of the experiment; in our own database its artifacts lie beside the file."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "tiltbench"
    found = client.get_experiment_by_name(name)
    if found is None:
        folder = str(_database(store).parent / "mlartifacts") if _ours() else None
        return str(client.create_experiment(name, artifact_location=folder))
    if found.lifecycle_stage != "active":
        raise UserError(f"the MLflow experiment '{name}' was deleted: set MLFLOW_EXPERIMENT_NAME")
    if _ours():
        _refuse_moved(_database(store), Path(found.artifact_location).parent)
    return str(found.experiment_id)


def _refuse_moved(database: Path, written: Path) -> None:
    """MLflow would go on putting artifacts where the database used to be."""
    if not (written.exists() and written.samefile(database.parent)):
        raise UserError(
            f"{database} was moved here from {written}, and MLflow cannot follow: delete the file "
            "and call 'bench track rebuild' for each run"
        )


# -- what ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Child:
    """A child run in MLflow; its content is empty until it is complete."""

    run: str
    content: str


class Mirror:
    """A suite in MLflow: its parent run and its children by row.

    Args:
        store: the run.
        started: of a parent that has yet to be created, in milliseconds.
    """

    def __init__(self, store: Store, started: int | None = None) -> None:
        self.store = store
        self.client = connect(store)
        self.experiment = _experiment(self.client, store)
        runs = list(self._search())
        parents = [run.info.run_id for run in runs if PARENT not in run.data.tags]
        self.parent = parents[0] if parents else self._begin(started)
        self.children: dict[str, list[Child]] = {}
        for run in runs:
            if PARENT in run.data.tags:
                self.children.setdefault(run.data.tags[ROW], []).append(self._child(run))

    def _search(self) -> Iterator[Any]:
        quote = '"' if "'" in self.store.name else "'"
        query = f"tags.`{RUN}` = {quote}{self.store.name}{quote}"
        token: str | None = None
        while token != "":
            page = self.client.search_runs([self.experiment], query, page_token=token)
            yield from page
            token = page.token or ""

    def _begin(self, started: int | None) -> str:
        note = self.store.suite().get("description") or "bench run"
        tags = {RUN: self.store.name, "mlflow.note.content": note}
        return self._create(self.store.name, tags, started)

    def _create(self, title: str, tags: dict[str, str], started: int | None) -> str:
        run = self.client.create_run(self.experiment, started, tags, run_name=title)
        return str(run.info.run_id)

    def _child(self, run: Any) -> Child:
        tags = run.data.tags
        complete = run.info.status in ("FINISHED", "FAILED") and tags[PARENT] == self.parent
        return Child(run.info.run_id, tags[CONTENT] if complete else "")

    def put(self, record: Record) -> bool:
        """Show a cell; False if it is there already."""
        there = self.children.get(record.row, [])
        same = [child for child in there if child.content == record.content][:1]
        for child in there:
            if child not in same:
                self.client.delete_run(child.run)
        self.children[record.row] = same or [self._write(record)]
        return not same

    def _write(self, record: Record) -> Child:
        own = {RUN: self.store.name, PARENT: self.parent, CELL: record.cell, ROW: record.row}
        own |= {ATTEMPT: str(record.attempt), CONTENT: record.content}
        run = self._create(record.title, record.tags | own, record.started)
        self._log(run, record)
        self._attach(run, read_files(self.store, record))
        # Last, so that a child that was interrupted is never taken for a complete one.
        self.client.set_terminated(run, "FINISHED" if record.ok else "FAILED", record.finished)
        return Child(run, record.content)

    def _log(self, run: str, record: Record) -> None:
        from mlflow.entities import Metric, Param

        at = record.finished or time.time_ns() // 1_000_000
        points = [(name, value, 0) for name, value in record.metrics.items()]
        points += read_curve(self.store, record)
        # MLflow takes 1000 entities at a time, 100 of them parameters.
        metrics = _batches([Metric(name, value, at, step) for name, value, step in points], 900)
        params = _batches([Param(name, value) for name, value in record.params.items()], 100)
        for pair in itertools.zip_longest(metrics, params, fillvalue=()):
            self.client.log_batch(run, *pair)

    def _attach(self, run: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="tiltbench-") as folder:
            for name, data in files.items():
                Path(folder, name).write_bytes(data)
                self.client.log_artifact(run, str(Path(folder, name)))

    def keep_only(self, rows: set[str]) -> int:
        """Delete children whose row is no longer in the tables; returns their number."""
        gone = self.children.keys() - rows
        runs = [child.run for row in gone for child in self.children.pop(row)]
        for run in runs:
            self.client.delete_run(run)
        return len(runs)

    def clear(self) -> int:
        """Delete the children and the parent; returns the number of children."""
        removed = self.keep_only(set())
        self.client.delete_run(self.parent)
        return removed

    def reopen(self) -> None:
        """Show the suite as running."""
        self.client.update_run(self.parent, "RUNNING")

    def finish(self, ended: int | None = None) -> None:
        """Counts, tables and the report on the parent, unless they are there already."""
        counts = Counter(self.store.table("cells")["status"])
        files = {name: self.store.read(name) for name in ON_PARENT if self.store.has(name)}
        content = hashlib.sha256(repr((sorted(counts.items()), files)).encode()).hexdigest()
        status = "RUNNING" if counts["pending"] else "FINISHED"
        parent = self.client.get_run(self.parent)
        known: dict[str, str] = parent.data.tags
        if (known.get(CONTENT), parent.info.status) == (content, status):
            return
        self._attach(self.parent, files)
        tags = {name: "0" for name in known if name.startswith(STATUS)}
        tags |= {f"{STATUS}{name}": str(count) for name, count in counts.items()}
        for name, value in (tags | {CONTENT: content}).items():
            self.client.set_tag(self.parent, name, value)
        if status == "RUNNING":
            self.reopen()
        else:
            self.client.set_terminated(self.parent, status, ended)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# -- while it happens ----------------------------------------------------------------------------


class Guarded:
    """Calls MLflow until that fails, says so once, and then leaves it alone."""

    def __init__(self, what: str) -> None:
        self.what, self.broken = what, False

    def __call__(self, action: Callable[[], None]) -> None:
        if self.broken:
            return
        try:
            action()
        except Exception as error:  # the boundary: tracking must never end a run
            self.broken = True
            print(f"warning: MLflow no longer follows {self.what}: {error}", file=sys.stderr)


class Follower:
    """Projects finished cells while a suite runs, now and then; told by the driver.

    Args:
        store: the run.
        every: seconds between projections, at least.
    """

    def __init__(self, store: Store, every: float = 15.0) -> None:
        self.store, self.every = store, every
        self.guarded = Guarded(f"'{store.name}'")
        self.waiting: list[Planned] = []
        self.mirror: Mirror | None = None
        self.last = time.monotonic()

    def __call__(self, row: Planned, payload: Payload) -> None:
        """A cell was stored."""
        self.waiting.append(row)
        if time.monotonic() - self.last >= self.every:
            self.guarded(self._project)
            self.waiting.clear()
            self.last = time.monotonic()

    def _project(self) -> None:
        if self.mirror is None:
            self.mirror = Mirror(self.store)
            self.mirror.reopen()
        for row in self.waiting:
            ending = outcome_of(self.store, row)
            if ending.stored is not None:
                metrics = self.store.metrics(row.id, ending.stored.attempt).values()
                self.mirror.put(make_record(_cell_row(row, ending), metrics))


class TrainingLog:
    """Losses of a training as one run; a training that goes on continues the run it had begun."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.guarded = Guarded(f"'{title}'")
        self.client: Any = None
        self.run = ""
        atexit.register(self.close)

    def __call__(self, stage: str, step: int, losses: Mapping[str, float]) -> None:
        """Log the losses of a stage at a step."""
        self.guarded(lambda: self._log(stage, step, losses))

    def _log(self, stage: str, step: int, losses: Mapping[str, float]) -> None:
        if self.client is None:
            self._open()
        from mlflow.entities import Metric

        at = time.time_ns() // 1_000_000
        named = {f"{clean(stage)}/{clean(key)}": value for key, value in losses.items()}
        metrics = [Metric(key, value, at, step) for key, value in named.items()]
        self.client.log_batch(self.run, metrics)

    def _open(self) -> None:
        store = Store(os.environ.get("TILTBENCH_ROOT") or "runs", "training")
        self.client = connect(store)
        experiment = _experiment(self.client, store)
        query = f"tags.`tiltbench.training` = '{self.title}' and attributes.status = 'RUNNING'"
        begun = self.client.search_runs([experiment], query, max_results=1)
        tags = {"tiltbench.training": self.title}
        run = begun[0] if begun else self.client.create_run(experiment, None, tags, self.title)
        self.run = run.info.run_id

    def close(self) -> None:
        """Mark the run as finished; called when the process ends."""
        if self.run:
            self.guarded(lambda: self.client.set_terminated(self.run))


def training_log(title: str) -> TrainingLog:
    """A callable (stage, step, losses) that logs a training to MLflow and never fails it."""
    return TrainingLog(title)
