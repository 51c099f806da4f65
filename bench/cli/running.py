"""`bench run` and `bench plan`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as o

if TYPE_CHECKING:
    from bench.core.cells import Planned
    from bench.record.store import Store
    from bench.runner.cell import Payload
    from bench.runner.executors import Executor as Executors
    from bench.runner.run import Outcome


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(
        "run", epilog="bench run -t digits -r template:strength=20 -m dps -b paper-nfe=100"
    )(run)
    app.command("plan", epilog="bench plan paper-gmm -b paper-nfe=200")(plan)


Executor = Annotated[str, typer.Option("--executor", help="ray or inline (this process).")]
Address = Annotated[str | None, typer.Option("--address", help="Ray cluster to join.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Cells at once (default: cores).")]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")]
NoTrack = Annotated[bool, typer.Option("--no-track", help="Do not write to MLflow.")]


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
    executor: Executor = "ray",
    address: Address = None,
    workers: Workers = None,
    retry_failed: Retry = False,
    no_track: NoTrack = False,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Compare methods; without arguments, the quickstart.  The same command again continues."""
    from bench.core.params import UserError
    from bench.plan.suite import build_suite
    from bench.record.store import Store
    from bench.runner.executors import make_executor
    from bench.runner.run import run_suite

    if executor not in ("ray", "inline"):
        raise UserError(f"--executor must be ray or inline, not '{executor}'")
    content = o.suite_content(suite, task, reward, method, budget, seeds, name, settings, baselines)
    resolved = build_suite(content, root)
    store = Store(root, resolved.name)
    tracker = None if no_track or executor == "inline" else _tracker(store)

    def started() -> Executors:
        return make_executor(executor, address, workers)

    with _Progress(quiet=as_json) as progress:
        tuned = None
        if resolved.tune is not None:
            from bench.cli.sweeping import tune

            tuned = tune(resolved, root, started, progress)
        outcome = run_suite(
            resolved if tuned is None else tuned.suite,
            store,
            started,
            progress,
            retry_failed,
            after_cell=tracker,
        )
    if tuned is not None:
        from sweeps.suites import record_tuning

        record_tuning(store, tuned)
    _finish(store, outcome, track=not no_track, as_json=as_json)


def _tracker(store: Store) -> Callable[[Planned, Payload], None]:
    """Projects finished cells to MLflow now and then, so that a long run can be followed."""
    from bench.tracking.live import Follower

    return Follower(store)


def _finish(store: Store, outcome: Outcome, track: bool, as_json: bool) -> None:
    """Report, track, print, and set the exit code."""
    import importlib.util

    from bench.core.params import UserError

    fresh = outcome.executed > 0 or outcome.remeasured > 0
    if store.local and (fresh or not store.has("report.html")):
        from reports.html import build

        build(store.folder)
    (_print_json if as_json else _print)(store, outcome)
    if track and fresh and importlib.util.find_spec("mlflow"):
        _sync(store)
    if outcome.failed:
        raise typer.Exit(1)
    if not outcome.plan:
        raise UserError("the suite holds no cells")


def _sync(store: Store) -> None:
    """Project to MLflow; the run is stored already, so a failure is a warning."""
    from bench.core.params import UserError
    from bench.tracking.mirror import sync

    try:
        sync(store)
    except UserError as error:
        typer.secho(f"warning: MLflow was not updated: {error}", err=True, fg="yellow")


def _print_json(store: Store, outcome: Outcome) -> None:
    typer.echo(
        json.dumps(
            {
                "run": store.path,
                "executed": outcome.executed,
                "cached": outcome.cached,
                "statuses": outcome.statuses,
                "report": f"{store.path}/report.html",
            }
        )
    )


def _print(store: Store, outcome: Outcome) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    if outcome.executed == 0 and outcome.remeasured == 0:
        console.print(f"Nothing to do: all {outcome.cached} cells of '{store.name}' are stored.")
    elif store.local:
        from reports.tables.terminal import console as tables

        for table in tables(store.folder):
            console.print(table)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.statuses.items()))
    console.print(f"{counts}.")
    console.print(f"Report: {store.path}/report.html", soft_wrap=True, highlight=False)


class _Progress:
    """A live bar on a terminal, a line per tenth elsewhere, nothing when quiet."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.quiet, self.done, self.failed, self.total = quiet, 0, 0, 0
        self.bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, total: int, workers: int) -> None:
        """Start the bar; the cells that sample from fits come after the fits, with their own."""
        from rich import progress as p

        self.done, self.total = 0, total
        self.__exit__()
        if self.quiet:
            return
        self.console.print(f"{total} cells on {workers} worker{'s' * (workers > 1)}")
        if self.console.is_terminal:
            self.bar = p.Progress(
                p.TextColumn("{task.description}"),
                p.BarColumn(),
                p.MofNCompleteColumn(),
                p.TimeElapsedColumn(),
                p.TextColumn("left"),
                p.TimeRemainingColumn(),
                p.TextColumn("[red]{task.fields[bad]}"),
                console=self.console,
            )
            self.task = self.bar.add_task(f"{workers} running", total=total, bad="")
            self.bar.start()

    def finished(self, row: Planned, payload: Payload) -> None:
        """Advance."""
        self.done += 1
        bad = payload.status != "ok"
        self.failed += bad
        if self.quiet:
            return
        if bad:
            self.console.print(
                f"{payload.status}: {row.method_label} on {row.task_label}, "
                f"{row.reward_label}, seed {row.cell.seed}: {payload.reason}"
            )
        if self.bar is not None:
            note = f"{self.failed} failed" if self.failed else ""
            self.bar.update(self.task, advance=1, bad=note)
        elif self.done % max(1, self.total // 10) == 0:
            self.console.print(f"{self.done}/{self.total} cells, {self.failed} failed")


def plan(
    suite: o.SuiteName = None,
    task: o.Tasks = [],  # noqa: B006
    reward: o.Rewards = [],  # noqa: B006
    method: o.Methods = [],  # noqa: B006
    budget: o.Budgets = [],  # noqa: B006
    seeds: o.Seeds = None,
    name: o.Name = None,
    settings: o.Settings = [],  # noqa: B006
    baselines: o.Baselines = True,
    alternatives: Annotated[
        bool, typer.Option("--alternatives", help="Show other settings that use the budget well.")
    ] = False,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Show the cells, what is stored already, and the parameters that matching chose."""
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record.store import Store
    from bench.runner.run import pilots_of

    resolved = build_suite(
        o.suite_content(suite, task, reward, method, budget, seeds, name, settings, baselines), root
    )
    store = Store(root, resolved.name)
    if any(b.startswith(("seconds", "flops")) for block in resolved.blocks for b in block.budgets):
        store.open()  # pilots run here, and what they find is kept for the run
    rows = [_plan_row(row, store) for row in expand(resolved, pilots_of(store))]
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        _print_plan(rows, alternatives)
        for judges in dict.fromkeys(str(block.judges) for block in resolved.blocks):
            typer.echo(f"Judges: {judges}.")


def _plan_row(row: Planned, store: Store) -> dict[str, Any]:
    stored = store.last(row.id) if row.status == "pending" and store.exists() else None
    return {
        "cell": row.id,
        "task": row.task_label,
        "reward": row.reward_label,
        "strength": row.cell.strength,
        "method": row.method_label,
        "budget": str(row.budget or ""),
        "seed": row.cell.seed,
        "n": row.cell.n,
        "status": stored.result["status"] if stored else row.status,
        "reason": row.reason,
        "matched": row.matched,
        "cost": row.expected if row.expected == row.expected else row.predicted.cost("paper-nfe"),
        "rows": row.predicted.cost("paper-nfe"),
        "fit": None if row.fit is None else row.fit.cost,
        "fit_matched": {} if row.fit is None else row.fit.matched,
        "use": None if row.use != row.use else row.use,
        "underused": row.underused,
        "alternatives": [{**values, "use": use} for values, use in row.alternatives],
    }


def _print_plan(rows: list[dict[str, Any]], alternatives: bool) -> None:
    """A table per task and reward; seeds are folded into a count."""
    from rich.console import Console

    worlds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        title = f"{row['task']}, {row['reward']} x {row['strength']:g}"
        worlds.setdefault(title, []).append(row)
    console = Console()
    for title, members in worlds.items():
        console.print(_plan_table(title, members, alternatives))
    total = sum(r["rows"] * r["n"] for r in rows if r["status"] == "pending")
    console.print(f"{len(rows)} cells; about {total:,.0f} rows still to compute.")


def _plan_table(title: str, rows: list[dict[str, Any]], alternatives: bool) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("method", "budget", "matched"):
        table.add_column(column, overflow="fold")
    fitted = any(row["fit"] is not None for row in rows)
    for column in ("cost", *(["fit"] if fitted else []), "use", "cells", "stored"):
        table.add_column(column, justify="right")
    table.add_column("would also fit" if alternatives else "note")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["budget"]), []).append(row)
    for (method, budget), members in groups.items():
        first = members[0]
        stored = sum(m["status"] == "ok" for m in members)
        use = "" if first["use"] is None else f"{first['use']:.2f}"
        note = first["reason"] or ("underused" if first["underused"] else "")
        if alternatives:
            others = ({k: v for k, v in a.items() if k != "use"} for a in first["alternatives"])
            note = note or "; ".join(map(_values, others))
        figures = [f"{first['cost']:g}", use, str(len(members)), str(stored)]
        if fitted:
            figures.insert(1, "" if first["fit"] is None else f"{first['fit']:.4g}")
        matched = _values(first["matched"] | first["fit_matched"])
        table.add_row(method, budget, matched, *figures, note)
    return table


def _values(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
