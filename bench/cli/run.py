"""`bench run`: compare methods."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as o
from bench.cli.console import wide_console
from bench.cli.execution import check_places, chosen, mirror, say_damage, starter, write_report
from bench.cli.progress import CellProgress, TrialProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.core.cells import Planned
    from bench.plan.suite import Suite
    from bench.record.attempt import Attempt
    from bench.record.store import Store
    from bench.runner.executors.base import Executor
    from bench.runner.run import Outcome
    from sweeps.tuned_suites import Tuned

EXAMPLE = "bench run -t digits -r template:strength=20 -m dps -b paper-nfe=100"

Retry = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")]


def run(
    suite: o.SuiteName = None,
    task: o.Tasks = [],  # noqa: B006  # typer reads list defaults and never mutates them
    reward: o.Rewards = [],  # noqa: B006
    method: o.Methods = [],  # noqa: B006
    budget: o.Budgets = [],  # noqa: B006
    seeds: o.Seeds = None,
    name: o.Name = None,
    settings: o.Settings = [],  # noqa: B006
    baselines: o.Baselines = True,
    device: o.Device = None,
    dtype: o.Dtype = None,
    executor: o.Executor = None,
    address: o.Address = None,
    workers: o.Workers = None,
    retry_failed: Retry = False,
    no_track: o.NoTrack = False,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Compare methods; without arguments, the quickstart.  The same command again continues."""
    from bench.plan.suite import build_suite
    from bench.record.store import Store
    from bench.runner.run import run_suite
    from bench.runner.stopping import stoppable

    executor = chosen(executor, address)
    start = starter(executor, address, workers)
    content = o.suite_content(
        suite, task, reward, method, budget, seeds, name, settings, baselines, device, dtype
    )
    resolved = build_suite(content, root)
    check_places(resolved.blocks, executor, address)
    store = Store(root, resolved.name)
    follower = None if no_track or executor == "inline" else _follower(store)
    with stoppable(o.GOES_ON), CellProgress(quiet=as_json) as progress:
        tuned = None if resolved.tune is None else _tuned(resolved, root, start, progress)
        whole = resolved if tuned is None else tuned.suite
        outcome = run_suite(whole, store, start, progress, retry_failed, after_cell=follower)
    if tuned is not None:
        _record_tuning(store, tuned)
    _finish(store, outcome, track=not no_track, as_json=as_json)


def _follower(store: Store) -> Callable[[Planned, Attempt], None]:
    """Projects finished cells to MLflow now and then, so that a long run can be followed."""
    from bench.tracking.live import Follower

    return Follower(store)


def _tuned(suite: Suite, root: str, start: Callable[[], Executor], progress: CellProgress) -> Tuned:
    """The sweeps that a suite with the key `tune` asks for."""
    from sweeps.tuned_suites import tune_first

    return tune_first(suite, root, start, TrialProgress(progress), progress.say)


def _record_tuning(store: Store, tuned: Tuned) -> None:
    from sweeps.tuned_suites import record_tuning

    record_tuning(store, tuned)


def _finish(store: Store, outcome: Outcome, track: bool, as_json: bool) -> None:
    """Report, print, track, and set the exit code."""
    from bench.core.params import UserError

    say_damage(outcome.damaged, outcome.unverified)
    fresh = outcome.executed > 0 or outcome.remeasured > 0 or outcome.projected
    write_report(store, fresh)
    (_print_json if as_json else _print)(store, outcome)
    if track and fresh:
        mirror(store)
    if not outcome.plan:
        raise UserError("the suite holds no cells")
    if outcome.failed or not outcome.statuses.get("ok"):
        raise typer.Exit(1)


def _print_json(store: Store, outcome: Outcome) -> None:
    from bench.record.copies import folder_of
    from reports.data.run import load_run
    from reports.tables.terminal import headline

    with folder_of(store) as folder:
        loaded = load_run(folder)
    results = headline(loaded.cells, loaded.metrics)
    told = {
        "run": store.url,
        "executed": outcome.executed,
        "cached": outcome.cached,
        "statuses": outcome.statuses,
        "report": f"{store.url}/report.html",
        "results": json.loads(results.to_json(orient="records")),
    }
    typer.echo(json.dumps(told))


def _print(store: Store, outcome: Outcome) -> None:
    """The tables, also of a run that was finished before; whatever did not end well; the counts."""
    from bench.record.copies import folder_of
    from reports.tables.terminal import console as tables
    from reports.tables.terminal import troubles

    console = wide_console(120)
    with folder_of(store) as folder:
        shown, lines = tables(folder), troubles(folder)
    for table in shown:
        console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False)
    if outcome.executed == 0 and outcome.remeasured == 0 and outcome.cached:
        console.print(f"Nothing to do: all {outcome.cached} cells of '{store.name}' are stored.")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.statuses.items()))
    console.print(f"{counts}.")
    console.print(f"Report: {store.url}/report.html", soft_wrap=True, highlight=False)
