"""`bench report`: the HTML report of a run, again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.completion import runs

if TYPE_CHECKING:
    from bench.record.store import Store

EXAMPLE = "bench report runs/quickstart"


def report(
    run: Annotated[
        str,
        typer.Argument(help="A run folder or its URL, e.g. runs/quickstart.", autocompletion=runs),
    ],
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Also write the tables to this file."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Also write tables (CSV, LaTeX, Markdown) and figures (SVG, PDF) to this folder.",
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option("--watch", min=1.0, help="Build again every so many seconds, until it ends."),
    ] = None,
) -> None:
    """(Re)build the HTML report, also while the run is going on."""
    url, waiting = built(run)
    typer.echo(f"Report: {url}")
    if watch is not None and waiting:
        _follow(run, watch)
    if markdown is None and export is None:
        return
    from bench.record.copies import folder_of
    from bench.record.store import open_run

    with folder_of(open_run(str(run)), samples=export is not None) as folder:
        if markdown is not None:
            from reports.tables.markdown import markdown as tables

            markdown.write_text(tables(folder), encoding="utf-8")
            typer.echo(f"Tables: {markdown}")
        if export is not None:
            from reports.export import export as write_files

            typer.echo(f"Export: {len(write_files(folder, export))} files in {export}")


def _follow(run: str, every: float) -> None:
    """Build again until every cell has ended, or until nobody computes any."""
    from bench.record.lease import driven
    from bench.record.store import open_run

    waiting, going = 1, True
    while waiting and going:
        time.sleep(every)
        # Before the tables are read: what ended in between is in them.
        going = driven(open_run(run))
        _, waiting = built(run)
        typer.echo(f"{waiting} cells to go" if waiting else "every cell has ended")
    if waiting:
        typer.echo("Nobody computes them now: the run's own command goes on where it stopped.")


def built(run: str) -> tuple[str, int]:
    """Write tables and page from what is stored; where the page is, and how many cells wait."""
    from bench.cli.execution import write_report
    from bench.core.params import UserError
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record import layout
    from bench.record.store import open_run
    from bench.record.tables import ending_of, write_tables
    from bench.runner.run import pilots_of

    store, waiting = open_run(str(run)), 0
    try:
        plan = expand(build_suite(store.suite()), pilots_of(store))
    except UserError as error:
        # A run that a notebook made of its own objects cannot be planned without them.
        if not store.has(layout.table("results")):
            raise
        typer.echo(f"The tables are those that were stored with the run: {error}.")
    else:
        write_tables(store, plan)
        waiting = sum(ending_of(store.index, row).status == "pending" for row in plan)
    write_report(store, fresh=True)
    _say_damage(store)
    return f"{store.url}/{layout.REPORT}", waiting


def _say_damage(store: Store) -> None:
    """What was found damaged, in one sentence on standard error."""
    if store.index.damaged:
        first, more = store.index.damaged[0], len(store.index.damaged) - 1
        typer.secho(
            f"warning: {first}{f' and {more} more files' if more else ''}; what is damaged counts "
            "as not stored, and the run's own command computes it again",
            err=True,
            fg="yellow",
        )
