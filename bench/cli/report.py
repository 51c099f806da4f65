"""`bench report`: the HTML report of a run, again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "bench report runs/quickstart"


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/quickstart.")],
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
    folder, waiting = built(run)
    typer.echo(f"Report: {folder / 'report.html'}")
    while watch is not None and waiting:
        time.sleep(watch)
        folder, waiting = built(run)
        typer.echo(f"{waiting} cells to go" if waiting else "every cell has ended")
    if markdown is not None:
        from reports.tables.markdown import markdown as tables

        markdown.write_text(tables(folder), encoding="utf-8")
        typer.echo(f"Tables: {markdown}")
    if export is not None:
        from reports.export import export as write_files

        typer.echo(f"Export: {len(write_files(folder, export))} files in {export}")


def built(run: Path) -> tuple[Path, int]:
    """Write tables and page from what is stored; the run's folder, and how many cells wait."""
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record.store import open_run
    from bench.record.tables import ending_of, write_tables
    from bench.runner.run import pilots_of
    from reports.html import write_page

    store = open_run(str(run))
    plan = expand(build_suite(store.suite()), pilots_of(store))
    write_tables(store, plan)
    write_page(store.folder)
    return store.folder, sum(ending_of(store.index, row).status == "pending" for row in plan)
