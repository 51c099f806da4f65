"""`bench report`: the HTML report of a run, again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.completion import runs

if TYPE_CHECKING:
    from bench.record.store import Store

EXAMPLE = "bench report runs/quickstart"


def report(
    run: Annotated[
        Path, typer.Argument(help="A run folder, e.g. runs/quickstart.", autocompletion=runs)
    ],
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Also write the tables to this file."),
    ] = None,
) -> None:
    """(Re)build the HTML report, also while the run is going on."""
    from bench.record.store import open_run
    from reports.html import write_page

    store = open_run(str(run))
    _refresh_tables(store)
    typer.echo(f"Report: {write_page(store.folder)}")
    if markdown is not None:
        from reports.tables.markdown import markdown as tables

        markdown.write_text(tables(store.folder), encoding="utf-8")
        typer.echo(f"Tables: {markdown}")


def _refresh_tables(store: Store) -> None:
    """The tables of what is stored by now.

    A run that a notebook made of its own objects cannot be planned without them: its tables are
    those that it stored.
    """
    from bench.core.params import UserError
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record import layout
    from bench.record.tables import write_tables
    from bench.runner.run import pilots_of

    try:
        planned = expand(build_suite(store.suite()), pilots_of(store))
    except UserError as error:
        if not store.has(layout.table("results")):
            raise
        typer.echo(f"The tables are those that were stored with the run: {error}.")
        return
    write_tables(store, planned)
