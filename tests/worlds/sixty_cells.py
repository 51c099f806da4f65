"""Sixty cells that take a second in all, twelve fits and budgets in seconds among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.base import Executor
from bench.runner.executors.inline import Inline
from bench.runner.run import Outcome, run_suite
from tests.worlds.cheap_run import assert_same, tables
from tests.worlds.silent import Silent

NAME, SEEDS = "sixty", 6
WORLD: Mapping[str, Any] = {"tasks": ["gmm-paper"], "rewards": ["linear"], "seeds": SEEDS, "n": 4}
FIT = "iterations=2,batch=4,steps=2"
BLOCKS: list[dict[str, Any]] = [
    {
        **WORLD,
        "methods": [
            *("prior:steps=2", "exact", "oracle:steps=5", "dps:steps=5"),
            *("best-of-n:candidates=2,steps=2", "sir:candidates=2,steps=2"),
        ],
    },
    {**WORLD, "methods": [f"draft-k:{FIT},fit_steps=2", f"itm:{FIT}"]},
    {**WORLD, "methods": ["prior", "best-of-n:steps=2"], "budgets": ["seconds=0.03"]},
]
"""36 cells as they are given, twelve behind a fit each, twelve matched to seconds."""

CELLS = 60

OF_A_FIT = ("fit_seconds_total",)
"""A column of a cell behind a fit that the clock decides, with those of every cell."""

OF_ANY_PILOTS = ("task", "reward", "method", "budget", "seed", "n")
"""What is known of a row matched to seconds, whatever its pilots measured."""

OF_THE_SAME_PILOTS = (*OF_ANY_PILOTS, "cell", "params", "matched", "expected")
"""With the same pilots also its parameters, and so its identity.

Whether it kept to its seconds, or was stopped and returned less, is up to the clock.
"""


def run_sixty(root: Path, executor: Callable[[], Executor] = Inline) -> tuple[Store, Outcome]:
    """Run what is missing of it."""
    suite = build_suite({"name": NAME, "blocks": BLOCKS})
    store = Store(str(root), NAME)
    return store, run_suite(suite, store, executor, Silent())


def take_pilots(whole: Store, root: Path) -> None:
    """Let a run under `root` begin with what the pilots of another measured.

    Their parameters are then the same: all else of a row matched to seconds is deterministic.
    """
    store = Store(str(root), NAME)
    store.open()
    pilots = whole.pilots()
    assert pilots is not None, "the other run has matched nothing to seconds"
    store.save_pilots(pilots)


def assert_equal(first: Store, second: Store, same_pilots: bool) -> None:
    """Raise AssertionError unless two runs agree in whatever no clock decides.

    Rows matched to seconds agree in what the columns above say, and with the same pilots also in
    samples and metrics, where both ended well.
    """
    known = OF_THE_SAME_PILOTS if same_pilots else OF_ANY_PILOTS
    timed = [found.table("cells").query("budget_unit == 'seconds'") for found in (first, second)]
    pd.testing.assert_frame_equal(*(rows[list(known)] for rows in timed))
    statuses = set(timed[0]["status"]) | set(timed[1]["status"])
    assert statuses <= {"ok", "over_budget"}, statuses
    ended = [set(rows["cell"][rows["status"] == "ok"]) for rows in timed]
    fair = ended[0] & ended[1] if same_pilots else set()
    assert_same(*(_settled(found, fair) for found in (first, second)))


def _settled(store: Store, fair: set[str]) -> dict[str, pd.DataFrame]:
    """The tables without what the clock decides; of rows matched to seconds those that are fair."""
    found = tables(store)
    cells = found.pop("cells")
    timed = cells["budget_unit"] == "seconds"
    gone = set(cells["cell"][timed]) - fair
    kept = {name: table[~table["cell"].isin(gone)] for name, table in found.items()}
    kept["cells"] = cells[~timed].drop(columns=list(OF_A_FIT))
    results = kept["results"]
    kept["results"] = results[~results["cell"].isin(set(cells["cell"][timed]))]
    # What is true or unknown in a row that is gone leaves its type behind.
    return {name: table.reset_index(drop=True).infer_objects() for name, table in kept.items()}
