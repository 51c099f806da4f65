"""`bench sweep`: methods tuned with equal tuning work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as o
from bench.cli.console import wide_console
from bench.cli.execution import check_places, chosen, mirror, starter, write_report
from bench.cli.progress import CellProgress, TrialProgress

if TYPE_CHECKING:
    from sweeps.driver import Swept

EXAMPLE = "bench sweep dps mfm-g -t gmm-paper -r inverse -b paper-nfe=100 --trials 40"

TunedMethods = Annotated[list[str], typer.Argument(metavar="METHOD...", help="Methods to tune.")]
OneTask = Annotated[str, typer.Option("-t", "--task", help="Task, e.g. gmm-paper.")]
OneReward = Annotated[str, typer.Option("-r", "--reward", help="Reward, e.g. inverse:strength=2.")]
OneBudget = Annotated[str, typer.Option("-b", "--budget", help="Budget, e.g. paper-nfe=100.")]
Trials = Annotated[int, typer.Option("--trials", help="Trials; sets the tuning work per method.")]
SamplerName = Annotated[
    str, typer.Option("--sampler", help="tpe, gp, nsga2, random or grid, e.g. tpe:startup=5.")
]
Objectives = Annotated[
    list[str], typer.Option("--objective", help="Metric or seconds; repeat for several.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the sweep.")]
TuningSeeds = Annotated[int, typer.Option("--tuning-seeds", help="Tuning seeds per trial.")]
ReportingSeeds = Annotated[
    int, typer.Option("--seeds", help="Seeds on which the result is reported.")
]
Spaces = Annotated[
    list[str],
    typer.Option("--space", help="guidance=0.1..10:log, mfm-g.draws=1..8, scale=a|b, start=off."),
]
SampleCount = Annotated[int, typer.Option("--n", help="Samples per cell.")]
Prune = Annotated[
    str | None, typer.Option("--prune", help="Stop hopeless trials early: asha:reduction=3.")
]
Dashboard = Annotated[
    bool, typer.Option("--dashboard", help="Export an SQLite file for optuna-dashboard.")
]


def sweep(
    methods: TunedMethods,
    task: OneTask,
    reward: OneReward,
    budget: OneBudget,
    trials: Trials = 40,
    sampler: SamplerName = "tpe",
    objective: Objectives = [],  # noqa: B006  # typer reads list defaults and never mutates them
    seed: Seed = 0,
    tuning_seeds: TuningSeeds = 2,
    seeds: ReportingSeeds = 3,
    n: SampleCount = 256,
    space: Spaces = [],  # noqa: B006
    prune: Prune = None,
    name: o.Name = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    executor: o.Executor = None,
    address: o.Address = None,
    workers: o.Workers = None,
    dashboard: Dashboard = False,
    no_track: o.NoTrack = False,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Tune methods with equal tuning work, then compare default and tuned on fresh seeds.

    The same command again continues.  What belongs to the target law, such as the reward's
    strength, is never tuned.
    """
    from bench.record.store import Store
    from bench.runner.stopping import stoppable
    from sweeps.driver import run_sweep
    from sweeps.space import parse_change
    from sweeps.spec import Spec

    executor = chosen(executor, address)
    start = starter(executor, address, workers)
    spec = Spec(
        task=task,
        reward=reward,
        methods=tuple(methods),
        budget=budget,
        objectives=tuple(objective),
        trials=trials,
        sampler=sampler,
        seed=seed,
        tuning_seeds=tuning_seeds,
        seeds=tuple(range(seeds)),
        n=n,
        prune=prune,
        space=dict(map(parse_change, space)),
        device=device or "cpu",
        dtype=dtype or "float32",
    )
    check_places([spec], executor, address)
    store = Store(root, name or spec.name)
    with stoppable(o.GOES_ON), CellProgress(quiet=as_json) as progress:
        swept = run_sweep(spec, store, start, TrialProgress(progress), dashboard=dashboard)
    write_report(store, swept.executed > 0)
    (_print_json if as_json else _print)(swept)
    if swept.executed and not no_track:
        mirror(store)
    if swept.failed:
        raise typer.Exit(1)


def _rows(swept: Swept) -> list[dict[str, Any]]:
    table = swept.store.table("tuning")
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return found


def _print_json(swept: Swept) -> None:
    typer.echo(
        json.dumps(
            {
                "run": swept.store.url,
                "executed": swept.executed,
                "studies": {
                    s.id: {"method": s.label, "trials": len(s.trials), "work": s.work}
                    for s in swept.studies
                },
                "tuned": _rows(swept),
                "report": f"{swept.store.url}/report.html",
            }
        )
    )


def _print(swept: Swept) -> None:
    from rich import box
    from rich.table import Table

    console = wide_console(140)
    table = Table(title=f"{swept.spec.task}, {swept.spec.reward}", box=box.SIMPLE_HEAD)
    for column in ("method", "tuned"):
        table.add_column(column, overflow="fold")
    for column in ("objective", "default", "tuned", "optimism", "trials", "tuning work"):
        table.add_column(column, justify="right")
    for row in _rows(swept):
        scores = (row["default_score"], row["tuned_score"], row["optimism"])
        shown = ["-" if score is None else f"{score:.4g}" for score in scores]
        work = f"{row['tuning_work']:.4g} {row['unit']}"
        table.add_row(
            row["method"], row["tuned"], row["objective"], *shown, str(row["trials"]), work
        )
    console.print(table)
    for study in swept.studies:
        if study.best is None:
            console.print(f"{study.label}: no trial completed; see the reasons in trials.parquet")
    if not swept.executed:
        console.print("Nothing to do: every cell is stored.")
    console.print(f"Report: {swept.store.url}/report.html", soft_wrap=True, highlight=False)
