"""What `run` and `sweep` share: where cells run, and what follows when they have."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.plan.suite import Block
    from bench.record.seals import Damage
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
    """The HTML report of a run, where the run is: if something is `fresh`, or it is stale."""
    from bench.record import layout
    from bench.record.copies import folder_of

    made, of = store.projections, store.projections.state(layout.REPORT)
    if fresh or not made.current(layout.REPORT, of):
        from reports.data.run import load_run
        from reports.html import save_page

        with folder_of(store, samples=True) as folder:
            page = save_page(run := load_run(folder))
            if not store.local:
                store.write(layout.REPORT, page.read_bytes())
        made.note(layout.REPORT, store.read(layout.REPORT), of)
        say_left_out(run.damaged)


def say_damage(damaged: Sequence[Damage], unverified: int = 0) -> None:
    """What was damaged, and how much nobody can vouch for; a sentence each, on standard error."""
    if damaged:
        more = f" and {len(damaged) - 1} more files" if len(damaged) > 1 else ""
        typer.secho(
            f"warning: {damaged[0]}{more}; what was damaged was set aside as *.damaged and "
            "computed again",
            err=True,
            fg="yellow",
        )
    if unverified:
        cells = "1 cell was" if unverified == 1 else f"{unverified} cells were"
        typer.secho(
            f"note: {cells} stored before files had checksums, and cannot be verified", err=True
        )


def say_left_out(damaged: Sequence[Damage]) -> None:
    """What a page or a tracker does without, on standard error."""
    from bench.record.seals import left_out

    if damaged:
        typer.secho(f"warning: {left_out(damaged)}", err=True, fg="yellow")


def mirror(store: Store) -> None:
    """Project to MLflow, where it is installed.

    The run is stored already, so that a failure is a warning.
    """
    if importlib.util.find_spec("mlflow") is None:
        return
    from bench.core.params import UserError
    from bench.tracking.mirror import sync

    said = len(store.index.damaged)
    try:
        sync(store)
    except UserError as error:
        typer.secho(f"warning: MLflow was not updated: {error}", err=True, fg="yellow")
    say_left_out(store.index.damaged[said:])
