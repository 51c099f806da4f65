"""`bench track`: runs in MLflow."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLE = "bench track sync runs/quickstart"

group = typer.Typer(help="Project a run to MLflow.", no_args_is_help=True, epilog=EXAMPLE)

Run = Annotated[str, typer.Argument(help="A run folder, e.g. runs/quickstart.")]


@group.command("sync", epilog=EXAMPLE)
def sync(run: Run) -> None:
    """Bring MLflow up to date with a run; what is there already is not written again.

    Without MLFLOW_TRACKING_URI it is written to mlflow.db beside the run folder.
    """
    from bench.record.store import open_run
    from bench.tracking.mirror import sync

    typer.echo(sync(open_run(run)))


@group.command("rebuild", epilog="bench track rebuild runs/quickstart")
def rebuild(run: Run) -> None:
    """Delete a run from MLflow and write it anew from the store.

    MLflow marks the old one as deleted; 'mlflow gc' frees its space.
    """
    from bench.record.store import open_run
    from bench.tracking.mirror import rebuild

    typer.echo(rebuild(open_run(run)))
