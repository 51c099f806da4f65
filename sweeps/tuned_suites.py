"""Suites with a `tune:` key: every method is tuned for its problem before the comparison."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from bench.core import plugins
from bench.core.params import UserError, parse_name
from bench.plan.budgets import parse_budget
from bench.plan.suite import Block, Suite, Tune
from bench.record.store import Store
from bench.runner.executors.base import Executor
from bench.runner.pilots import Pilots
from sweeps import tables
from sweeps.driver import SweepWatcher, Swept, run_sweep
from sweeps.importance import importance_table
from sweeps.planner import Planner
from sweeps.space import read_change
from sweeps.spec import Spec, checked


@dataclass
class Tuned:
    """A suite with the tuned configurations beside the defaults, and the sweeps behind them."""

    suite: Suite
    sweeps: list[Swept]


def tune_first(
    suite: Suite,
    root: str,
    executor: Callable[[], Executor],
    watcher: SweepWatcher,
    say: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Sweep every problem and budget of a suite; what is stored is not run again.

    Methods that cannot run or have nothing to tune are compared as they are.
    """
    assert suite.tune is not None
    blocks: list[Block] = []
    sweeps: list[Swept] = []
    with contextlib.ExitStack() as session:
        for part in _parts(suite):
            spec = _spec(suite.tune, part, say)
            if spec is None:
                blocks.append(part)
                continue
            store = Store(root, f"{suite.name}-{spec.name}")
            say(f"tuning {', '.join(spec.methods)} on {spec.task}, {spec.reward}, {spec.budget}")
            swept = run_sweep(spec, store, executor, watcher, report=False, session=session)
            sweeps.append(swept)
            for lost in (study.label for study in swept.studies if study.best is None):
                say(_lost(spec, lost))
            blocks.append(_beside(part, swept))
    return Tuned(suite.model_copy(update={"blocks": blocks, "tune": None}), sweeps)


def _lost(spec: Spec, label: str) -> str:
    """Why there is no tuned row: it would otherwise just be missing."""
    return (
        f"not tuned: no trial of {label} on {spec.task}, {spec.reward} ended with a finite "
        f"{spec.objectives[0]}; the default is compared alone"
    )


def _parts(suite: Suite) -> list[Block]:
    """One block per task, reward and budget, since each is tuned by itself."""
    return [
        block.model_copy(update={"tasks": [task], "rewards": [reward], "budgets": [budget]})
        for block in suite.blocks
        for task in block.tasks
        for reward in block.rewards
        for budget in block.budgets
    ]


def _spec(tune: Tune, block: Block, say: Callable[[str], None]) -> Spec | None:
    """The sweep of one block, of those methods that can be tuned; None if there are none."""
    if parse_budget(block.budgets[0]) is None:
        return None
    spec = Spec(
        task=block.tasks[0],
        reward=block.rewards[0],
        methods=tuple(block.methods),
        budget=block.budgets[0],
        objectives=tuple(tune.objectives or block.judges.tuning),
        trials=tune.trials,
        sampler=tune.sampler,
        seed=tune.seed,
        tuning_seeds=tune.seeds,
        seeds=tuple(block.seed_list()),
        n=tune.n or block.n,
        prune=tune.prune,
        space={name: read_change(content, name) for name, content in tune.space.items()},
        batch=block.batch,
        threads=block.threads,
        seconds=block.seconds,
        device=block.device,
        dtype=block.dtype,
        resources=block.resources,
    )
    spec = checked(spec)
    _kept_apart(spec, block)
    able = [label for label in spec.methods if _able(spec, label, say)]
    return replace(spec, methods=tuple(able), space=_known(spec, able)) if able else None


def _kept_apart(spec: Spec, block: Block) -> None:
    """An objective, chosen by default or not, is never a judge that is held out."""
    for name in spec.objectives:
        if name in block.judges.held_out:
            raise UserError(
                f"'{name}' is held out on {spec.task} and would be tuned on: name a tuning judge, "
                "e.g. judges: {tuning: [reward]}"
            )


def _able(spec: Spec, label: str, say: Callable[[str], None]) -> bool:
    """Whether a method runs here and has a parameter to tune."""
    try:
        axes = Planner(spec, label, Pilots()).space.axes
    except UserError as error:
        say(f"not tuned: {error}")
        return False
    if not axes:
        say(f"not tuned: {label} has nothing to tune at {spec.budget}")
    return bool(axes)


def _known(spec: Spec, able: list[str]) -> dict[str, object]:
    """The part of the space that concerns the methods that are tuned."""
    names = {parse_name(label)[0] for label in able}
    fields = {f.name for n in names for f in dataclasses.fields(plugins.load("methods", n).Params)}
    kept = {}
    for full, change in spec.space.items():
        owner, dot, name = full.rpartition(".")
        if owner in names if dot else name in fields:
            kept[full] = change
    return kept


def _beside(block: Block, swept: Swept) -> Block:
    """The block with the tuned configuration after every default."""
    tuned = {s.label: s.best.label for s in swept.studies if s.best is not None}
    pairs = [(label, tuned.get(label, label)) for label in block.methods]
    methods = list(dict.fromkeys(label for pair in pairs for label in pair))
    return block.model_copy(update={"methods": methods})


def record_tuning(store: Store, tuned: Tuned) -> None:
    """Write the sweeps' tables into the comparison's folder, scored on its reporting cells."""
    results = store.table("results")
    frames = [
        (
            tables.selection_table(swept.studies, results, swept.store.name),
            tables.trials_table(swept.studies),
            importance_table(swept.studies),
        )
        for swept in tuned.sweeps
    ]
    names = ("tuning", "trials", "importance")
    for name, parts in zip(names, zip(*frames, strict=True), strict=False):  # no sweep, no frames
        store.save_table(name, pd.concat(parts, ignore_index=True))
