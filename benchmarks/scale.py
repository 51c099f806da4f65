"""A synthetic run of many cells, half of them stored: how plan, resume, tables and report grow.

    python -m benchmarks.scale 1000 10000

Nothing is sampled: attempts are made up and written as the driver writes them, without waiting for
the disk.  Prints seconds and peak memory of every stage, and the exponent between the two sizes.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import plugins
from bench.core.cells import Planned
from bench.core.work import Rows, Work
from bench.plan.expand import expand
from bench.plan.suite import Suite, build_suite
from bench.record.attempt import Attempt, MetricRow
from bench.record.store import Store
from bench.record.tables import tables_are_current, write_tables
from bench.runner.measuring import wanted_metrics
from bench.runner.run import pending_fits, pending_jobs
from reports.html import write_page

METHODS = [f"prior:steps={k}" for k in range(2, 12)]
"""Ten rows per seed."""

WARM = 20
"""Cells of a run before those that are timed."""


def suite_of(cells: int) -> Suite:
    """A suite of so many cells."""
    content = {"name": "scale", "tasks": ["gmm-paper"], "rewards": ["linear"], "n": 4}
    seeds = max(1, cells // len(METHODS))
    return build_suite({**content, "methods": METHODS, "budgets": ["none"], "seeds": seeds})


def made_up(row: Planned, names: list[tuple[str, str]]) -> Attempt:
    """An attempt as if the row had been run."""
    metrics = tuple(MetricRow(*name, value=row.cell.seed + 0.5, n=4) for name in names)
    work = Work(flow=Rows(8.0), seconds=0.1).flat()
    costs = {"paper-nfe": 2.0, "model-nfe": 2.0}
    return Attempt(
        row.id, "ok", work=work, costs=costs, metrics=metrics, scores={"reward": [1.0] * 4}
    )


@contextmanager
def no_waiting() -> Iterator[None]:
    """Files are not synced: it is the program that is measured."""
    sync, os.fsync = os.fsync, lambda fd: None  # noqa: ARG005
    try:
        yield
    finally:
        os.fsync = sync


@dataclass(frozen=True)
class Taken:
    """What a stage took: seconds, and the most memory that the process had until its end, in GB."""

    seconds: float
    peak: float


def stages(cells: int, root: str) -> dict[str, Taken]:
    """What every stage of a run of so many cells takes, half of them stored."""
    found: dict[str, Taken] = {}

    def timed(name: str, do: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        out = do()
        seconds = time.perf_counter() - began
        found[name] = Taken(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return out

    suite = suite_of(cells)
    plan = timed("plan", lambda: expand(suite))
    timed("ids", lambda: [row.id for row in plan])
    timed("store", lambda: _store_half(root, suite, plan))
    again = Store(root, "scale")
    timed("resume", lambda: _due(again, plan))
    timed("tables", lambda: write_tables(again, plan))
    timed("stale?", lambda: tables_are_current(again, plan))
    timed("report", lambda: write_page(again.folder))
    return found


def _store_half(root: str, suite: Suite, plan: list[Planned]) -> None:
    """What drivers before this one have done."""
    store = Store(root, "scale")
    store.open()
    store.save_suite(suite.model_dump(mode="json"))
    names = [(m, plugins.load("metrics", m).version) for m in wanted_metrics("gmm-paper")]
    for row in plan[::2]:
        store.index.save(row.cell, made_up(row, names))


def _due(store: Store, plan: list[Planned]) -> tuple[object, object]:
    """What a second run asks first."""
    return pending_fits(store.index, plan, False), pending_jobs(store, plan, False)


def main(sizes: list[int]) -> None:
    """Print a line per stage."""
    columns = []
    for cells in (WARM, *sizes):
        with tempfile.TemporaryDirectory() as root, no_waiting():
            columns.append(stages(cells, str(Path(root))))
    del columns[0]  # the first call of everything imports and compiles
    for name in columns[0]:
        seconds = [column[name].seconds for column in columns]
        line = f"{name:10}" + "".join(f"{s:10.2f} s" for s in seconds)
        line += f"   peak {columns[-1][name].peak:.2f} GB"
        if len(sizes) > 1 and min(seconds) > 0:
            growth = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
            line += f"   exponent {growth:.2f}"
        print(line)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [1000, 10000])
