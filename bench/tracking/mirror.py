"""The store in MLflow: a projection that can be deleted and made again at any time.

    bench track sync runs/quickstart

One experiment, one parent run per suite, one child run per row of cells.parquet with a result.
A run's driver is the only writer.  Children carry a hash of what they show, so that a second sync
writes nothing, and a cell that was run or measured again replaces its child.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.secrets import redacted
from bench.record.lease import driven
from bench.record.store import Store
from bench.tracking.artifacts import Record, read_curve, read_files, read_records
from bench.tracking.database import connect, experiment_of, one_sentence, tracking_uri
from bench.tracking.models import put_models
from bench.tracking.parent import Headline, headlines, parameters, title

PARENT = "mlflow.parentRunId"
RUN, CELL, ROW, ATTEMPT, CONTENT = (
    f"tiltbench.{tag}" for tag in ("run", "cell", "row", "attempt", "content")
)
STATUS = "tiltbench.status."
ON_PARENT = ("suite.yaml", "cells.parquet", "metrics.parquet", "results.parquet", "report.html")


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
    with one_sentence(store):
        return _project(store, read_records(store))


def rebuild(store: Store) -> SyncReport:
    """Delete this run, and no other, from MLflow and project it anew."""
    with one_sentence(store):
        records = read_records(store)
        removed = Mirror(store).clear()
        report = _project(store, records)
        return replace(report, removed=report.removed + removed)


def _project(store: Store, records: list[Record]) -> SyncReport:
    clock = time.perf_counter()
    started = min((r.started for r in records if r.started), default=None)
    mirror = Mirror(store, started)
    mirror.describe(started)
    written = sum(map(mirror.put, records))
    removed = mirror.keep_only({record.row for record in records})
    mirror.finish(max((r.finished for r in records if r.finished), default=None))
    put_models(mirror.client, mirror.experiment, mirror.parent, store)
    return SyncReport(
        uri=redacted(tracking_uri(store)),
        parent=mirror.parent,
        written=written,
        unchanged=len(records) - written,
        removed=removed,
        failed=sum(not record.ok for record in records),
        seconds=time.perf_counter() - clock,
    )


def of_run(name: str) -> str:
    """What MLflow searches for to find a suite and its cells."""
    quote = '"' if "'" in name else "'"
    return f"tags.`{RUN}` = {quote}{name}{quote}"


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
        self.experiment = experiment_of(self.client, store)
        runs = list(self._search())
        parents = [run.info.run_id for run in runs if PARENT not in run.data.tags]
        self.parent = parents[0] if parents else self._begin(started)
        self.children: dict[str, list[Child]] = {}
        for run in runs:
            if PARENT in run.data.tags:
                self.children.setdefault(run.data.tags[ROW], []).append(self._child(run))

    def _search(self) -> Iterator[Any]:
        query = of_run(self.store.name)
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

    def describe(self, started: int | None) -> None:
        """Parameters of the suite on a parent that may have them.

        Those of a run in MLflow cannot change: where the suite has grown, the parent is replaced,
        and its children with it.
        """
        wanted = parameters(self.store)
        known = self.client.get_run(self.parent).data.params
        if any(known.get(name, value) != value for name, value in wanted.items()):
            self.client.delete_run(self.parent)
            self.parent, known = self._begin(started), {}
            old = [child for there in self.children.values() for child in there]
            for child in old:
                self.client.set_tag(child.run, PARENT, self.parent)
        from mlflow.entities import Param

        missing = [Param(name, value) for name, value in wanted.items() if name not in known]
        if missing:
            self.client.log_batch(self.parent, params=missing)

    def finish(self, ended: int | None = None) -> None:
        """Counts, headlines, tables and the report on the parent, unless they are there already.

        A suite with cells to go is running while somebody drives it, and killed otherwise.
        """
        counts = Counter(self.store.table("cells")["status"])
        files = {name: self.store.read(name) for name in ON_PARENT if self.store.has(name)}
        name, lines = title(self.store), headlines(self.store)
        shown = (name, lines, sorted(counts.items()), files)
        content = hashlib.sha256(repr(shown).encode()).hexdigest()
        waiting = "RUNNING" if driven(self.store) else "KILLED"
        status = waiting if counts["pending"] else "FINISHED"
        parent = self.client.get_run(self.parent)
        known: dict[str, str] = parent.data.tags
        if (known.get(CONTENT), parent.info.status) == (content, status):
            return
        self.client.update_run(self.parent, name=name)
        self._head(lines, ended)
        self._attach(self.parent, files)
        tags = {name: "0" for name in known if name.startswith(STATUS)}
        tags |= {f"{STATUS}{name}": str(count) for name, count in counts.items()}
        for name, value in (tags | {CONTENT: content}).items():
            self.client.set_tag(self.parent, name, value)
        if status == "RUNNING":
            self.reopen()
        else:
            self.client.set_terminated(self.parent, status, ended)

    def _head(self, lines: list[Headline], ended: int | None) -> None:
        from mlflow.entities import Metric

        at = ended or time.time_ns() // 1_000_000
        metrics = [Metric(line.name, line.value, at, line.step) for line in lines]
        for batch in _batches(metrics, 900):
            self.client.log_batch(self.parent, metrics=batch)


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
