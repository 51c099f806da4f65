"""A run of a few cells that take no time, and what a second look at it finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import Outcome, run_suite
from tests.worlds.silent import Silent

CONTENT: Mapping[str, Any] = {
    "name": "cheap",
    "tasks": ["gmm-paper"],
    "rewards": ["linear"],
    "methods": ["prior:steps=2"],
    "budgets": ["none"],
    "seeds": 2,
    "n": 4,
}
TIMED = ("seconds", "cell_seconds", "warmup_seconds", "joules", "peak_bytes", "finished", "attempt")
"""Columns that the clock and the machine decide."""


def run(root: Path, **changes: Any) -> tuple[Store, Outcome]:
    """Run what is missing of it, in this process."""
    suite = build_suite({**CONTENT, **changes})
    store = Store(str(root), suite.name)
    return store, run_suite(suite, store, Inline, Silent())


def tables(store: Store) -> dict[str, pd.DataFrame]:
    """The tables, without what time decides."""
    names = ("cells", "metrics", "samples", "results")
    return {name: store.table(name).drop(columns=list(TIMED), errors="ignore") for name in names}


def assert_same(first: Mapping[str, pd.DataFrame], second: Mapping[str, pd.DataFrame]) -> None:
    """All tables alike, to the last digit."""
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, second[name])
