"""What `run` and `sweep` share: where cells run, and what follows when they have."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.plan.suite import Block
    from bench.record.store import Store
    from bench.runner.executors.base import Executor
    from sweeps.spec import Spec


def chosen(kind: str | None, address: str | None = None) -> str:
    """The executor that was asked for; without a word Ray, or this process where there is none."""
    from bench.core.extras import command, has

    if kind is not None:
        return kind
    if has("ray") or address is not None:
        return "ray"
    told = f"Cells run one after another in this process; {command('ray')} runs them side by side."
    typer.echo(told, err=True)
    return "inline"


STOPPED = 130
"""Exit code of a command that Ctrl-C ended."""


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C ends a run with a sentence: what has finished is stored."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Stopped.  Finished cells are stored; the same command continues.", err=True)
        raise typer.Exit(STOPPED) from None


def starter(kind: str, address: str | None, workers: int | None) -> Callable[[], Executor]:
    """Makes the executor once there is something to run; UserError for an unknown kind."""
    from bench.core.params import UserError
    from bench.runner.executors.by_name import EXECUTORS

    if kind not in EXECUTORS:
        raise UserError(f"--executor must be {' or '.join(EXECUTORS)}, not '{kind}'")
    return lambda: EXECUTORS[kind](address, workers)


def check_places(places: Iterable[Block | Spec], kind: str, address: str | None) -> None:
    """Raises UserError unless cells can run where blocks or a sweep say.

    Workers of a cluster have devices that this machine may lack; they check theirs.
    """
    from bench.core.params import UserError
    from bench.core.place import Place

    for said in places:
        place = Place(said.device, said.dtype)
        if kind == "ray" and ":" in place.device:
            raise UserError(
                f"'{place.device}' names one card, and Ray hands them out: use --device cuda, or "
                "--executor inline"
            )
        if address is None:
            place.check()


def write_report(store: Store, fresh: bool) -> None:
    """The HTML report of a run on this machine: if something is `fresh`, or there is none yet."""
    from bench.record import layout

    if store.local and (fresh or not store.has(layout.REPORT)):
        from reports.html import write_page

        write_page(store.folder)


def mirror(store: Store) -> None:
    """Project to MLflow, where it is installed.

    The run is stored already, so that a failure is a warning.
    """
    if importlib.util.find_spec("mlflow") is None:
        return
    from bench.core.params import UserError
    from bench.tracking.mirror import sync

    try:
        sync(store)
    except UserError as error:
        typer.secho(f"warning: MLflow was not updated: {error}", err=True, fg="yellow")
