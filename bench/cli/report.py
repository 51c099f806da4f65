"""`bench report`: the HTML report of a run, again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "bench report runs/quickstart"


def report(
    run: Annotated[str, typer.Argument(help="A run folder or its URL, e.g. runs/quickstart.")],
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Also write the tables to this file."),
    ] = None,
) -> None:
    """(Re)build the HTML report, also while the run is going on."""
    from bench.cli.execution import write_report
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record import layout
    from bench.record.copies import folder_of
    from bench.record.store import open_run
    from bench.record.tables import write_tables
    from bench.runner.run import pilots_of

    store = open_run(run)
    write_tables(store, expand(build_suite(store.suite()), pilots_of(store)))
    write_report(store, fresh=True)
    typer.echo(f"Report: {store.url}/{layout.REPORT}")
    if store.index.damaged:
        first, more = store.index.damaged[0], len(store.index.damaged) - 1
        typer.secho(
            f"warning: {first}{f' and {more} more files' if more else ''}; what is damaged counts "
            "as not stored, and the run's own command computes it again",
            err=True,
            fg="yellow",
        )
    if markdown is not None:
        from reports.tables.markdown import markdown as tables

        with folder_of(store) as folder:
            markdown.write_text(tables(folder), encoding="utf-8")
        typer.echo(f"Tables: {markdown}")
