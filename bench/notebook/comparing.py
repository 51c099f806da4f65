"""`bench.compare`: a comparison from Python; plan, runner and store are those of `bench run`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from bench.cli.execution import check_places, mirror, write_report
from bench.cli.progress import CellProgress
from bench.core import plugins
from bench.core.cells import digest
from bench.core.params import UserError, nearest, parse_name
from bench.notebook.names import method_names, reward_name, task_name
from bench.notebook.result import Comparison
from bench.plan.presets import ROOT_VARIABLE
from bench.plan.suite import Suite, build_suite
from bench.record.store import Store
from bench.runner.executors.by_name import EXECUTORS
from bench.runner.run import Outcome, run_suite


def compare(
    methods: Any,
    task: Any,
    reward: Any,
    budget: str | Sequence[str] | None = "paper-nfe=100",
    seeds: int | Sequence[int] = 3,
    *,
    strength: float | None = None,
    name: str | None = None,
    root: str | None = None,
    executor: str = "inline",
    workers: int | None = None,
    retry_failed: bool = False,
    track: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Comparison:
    """Compare methods at equal measured compute; the same call again computes nothing.

    methods: names with parameters ("dps:guidance=2"), classes or instances of `Method`, also ones
    that are defined in the notebook.  task: a name, a `Task` or `from_velocity(...)`.  reward: a
    name, a `Reward`, or any function of a batch (n, ...) -> (n,).  budget: one or several, as
    "paper-nfe=200"; None runs methods as they are given.  seeds: how many, or which.
    strength: the factor of the reward in the law p(x) exp(strength r(x)) / Z that is asked for.
    name, root: the folder of the run (default: one per task and reward, below runs).
    executor: "inline" (this process) or "ray", with `workers` cells at once.
    settings: any other key of a suite, such as n=1024, device="cuda", baselines=True.

    Every task, reward and method that is no name counts with its identity
    (`bench.core.identity`), and with it goes into the cells' ids: what answers differently is
    computed anew, everything else is found in the store.

    Raises UserError, one sentence, for what cannot be compared or has no identity.
    """
    _refuse_keys(settings)
    plugins.renew()
    place = root or os.environ.get(ROOT_VARIABLE, "runs")
    content = {
        **settings,
        "tasks": [task_name(task)],
        "rewards": [reward_name(reward, strength)],
        "methods": method_names(methods),
        "budgets": ["none"] if budget is None else budget if isinstance(budget, str) else [*budget],
        "seeds": seeds if isinstance(seeds, int) else [*seeds],
    }
    content["name"] = name or _folder_name(content)
    suite = build_suite(content, place)
    check_places(suite.blocks, executor, None)
    store, outcome = _run(suite, place, executor, workers, retry_failed, quiet)
    write_report(store, fresh=True)
    if track:
        mirror(store)
    return Comparison.of(store, outcome)


INSTEAD = {
    "tasks": "give one task=",
    "rewards": "give one reward=",
    "budgets": "give budget=, one or a list",
    "blocks": "call compare for each block",
    "tune": "use 'bench sweep', then methods as NAME@PRESET",
}
"""Keys of a suite that compare has another word for, or none."""


def _refuse_keys(settings: dict[str, Any]) -> None:
    """Raise UserError for a key that would be passed over."""
    for key in settings:
        if key in INSTEAD:
            raise UserError(f"compare takes no '{key}': {INSTEAD[key]}")


def _folder_name(content: dict[str, Any]) -> str:
    """A folder for a task and a reward: methods, budgets and seeds that are added join it."""
    (task,), (reward,) = content["tasks"], content["rewards"]
    names = [parse_name(text)[0] for text in (task, reward)]
    known = [plugins.local("tasks", names[0]), plugins.local("rewards", names[1])]
    identities = [found.identity for found in known if found is not None]
    said = "-".join("".join(c if c.isalnum() else "-" for c in name).strip("-") for name in names)
    return f"{said}-{digest([task, reward, identities])[:6]}"


def _run(
    suite: Suite, root: str, executor: str, workers: int | None, retry_failed: bool, quiet: bool
) -> tuple[Store, Outcome]:
    """The cells that are missing, with progress; torch's threads and random state come back."""
    if executor not in EXECUTORS:
        raise UserError(f"there is no executor '{executor}': {nearest(executor, EXECUTORS)}")
    store = Store(root, suite.name)
    if not store.local:
        raise UserError(f"compare reads its tables on this machine, and {root} is not on it")
    with _undisturbed(), CellProgress(quiet) as progress:
        outcome = run_suite(
            suite,
            store,
            lambda: EXECUTORS[executor](None, workers),
            progress,
            retry_failed,
            may_replace=True,  # one folder holds all that is asked of a task and a reward
        )
        if outcome.executed == 0:
            progress.say(f"Nothing to do: all {outcome.cached} cells are stored in {store.path}.")
    return store, outcome


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Cells set the number of threads and may draw; the notebook goes on with its own."""
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=()):
            yield
    finally:
        torch.set_num_threads(threads)
