"""`bench export`, `bench import` and `bench clean`: runs as files, and without leftovers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options as o
from bench.cli.completion import runs

EXPORT_EXAMPLE = "bench export runs/quickstart"
IMPORT_EXAMPLE = "bench import quickstart.tar.gz --name theirs"
CLEAN_EXAMPLE = "bench clean runs/quickstart --yes"

Run = Annotated[
    Path, typer.Argument(help="A run folder, e.g. runs/quickstart.", autocompletion=runs)
]


def export(
    run: Run,
    to: Annotated[
        Path | None, typer.Option("--to", help="The archive (default: NAME.tar.gz).")
    ] = None,
) -> None:
    """Put a run into one file: suite, cells, samples and tables."""
    from bench.record.archive import packed
    from bench.record.store import open_run

    store = open_run(str(run))
    target = to or Path(f"{store.name}.tar.gz")
    count = packed(store, target)
    size = target.stat().st_size / 1e6
    typer.echo(f"{target}: {count} files, {size:.1f} MB.  Elsewhere: bench import {target.name}")


def import_run(
    archive: Annotated[Path, typer.Argument(help="What `bench export` wrote.")],
    name: o.Name = None,
    root: o.Root = o.DEFAULT_ROOT,
) -> None:
    """Unpack a run of somebody else; nothing in it is executed."""
    from bench.record.archive import unpacked
    from reports.html import write_page

    folder = unpacked(archive, Path(root), name)
    typer.echo(f"Report: {write_page(folder)}")


def clean(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only list.")] = False,
) -> None:
    """Delete what no row of a run needs: old cells, replaced attempts, old checkpoints."""
    import shutil

    from bench.record.archive import leftovers, size_of
    from bench.record.store import open_run

    found = list(leftovers(open_run(str(run))))
    total = sum(size_of(folder) for folder, _ in found) / 1e6
    for folder, why in found:
        typer.echo(f"{folder}  {why}")
        if yes:
            shutil.rmtree(folder)
    if not found:
        typer.echo("Nothing to clean: every file belongs to a row of the run.")
        return
    done = "deleted" if yes else "would be deleted: repeat with --yes"
    typer.echo(f"{len(found)} folders, {total:.1f} MB, {done}.")
