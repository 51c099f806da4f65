"""`bench track`: runs in MLflow, and as folders for other trackers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bench.record.store import Store

EXAMPLE = "bench track sync runs/quickstart"

group = typer.Typer(
    help="Project a run to MLflow, or export it to another tracker.",
    no_args_is_help=True,
    epilog=EXAMPLE,
)

Run = Annotated[str, typer.Argument(help="A run folder, e.g. runs/quickstart.")]


@group.command("sync", epilog=EXAMPLE)
def sync(run: Run) -> None:
    """Bring MLflow up to date with a run; what is there already is not written again.

    Without MLFLOW_TRACKING_URI it is written to mlflow.db beside the run folder.
    """
    from bench.tracking.mirror import sync

    _project(run, sync)


@group.command("rebuild", epilog="bench track rebuild runs/quickstart")
def rebuild(run: Run) -> None:
    """Delete a run from MLflow and write it anew from the store.

    MLflow marks the old one as deleted; 'mlflow gc' frees its space.
    """
    from bench.tracking.mirror import rebuild

    _project(run, rebuild)


@group.command("export", epilog="bench track export runs/quickstart --to wandb --dir wandb-runs")
def export(
    run: Run,
    to: Annotated[str, typer.Option("--to", help="The tracker: wandb.")] = "wandb",
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder to write to; it is made where it is missing.")
    ] = Path("wandb-runs"),
    project: Annotated[
        str, typer.Option("--project", help="Name of the project there.")
    ] = "tiltbench",
) -> None:
    """Write a run for another tracker: a folder, without account or network.

    A row of the run (a method at a budget) is a run there: its parameters, means of its metrics
    with the headline among them, what it logged by step, and a picture of its samples.
    """
    from bench.core.params import UserError
    from bench.tracking.exports import EXPORTS

    if to not in EXPORTS:
        raise UserError(f"'{to}' is no tracker that a run can be exported to: {', '.join(EXPORTS)}")
    _project(run, lambda store: EXPORTS[to](store, folder, project))


def _project(run: str, projection: Callable[[Store], object]) -> None:
    """Print what a projection says of a run, and what it had to leave out."""
    from bench.cli.execution import say_left_out
    from bench.record.store import open_run

    store = open_run(run)
    typer.echo(projection(store))
    say_left_out(store.index.damaged)
