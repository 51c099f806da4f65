"""`bench apply`: the best parameters of a sweep as a preset."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bench.cli import options as o

EXAMPLE = "bench apply runs/sweep-1a2b3c4d --name tuned"

Preset = Annotated[str | None, typer.Option("--name", help="Name of the preset.")]


def apply(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The folder of a sweep.")],
    name: Preset = None,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Write the best parameters of a sweep as a preset: METHOD@PRESET in suites and commands."""
    from bench.record.store import open_run
    from sweeps.apply import apply as write

    path, entries = write(open_run(sweep), name, root)
    if as_json:
        typer.echo(json.dumps({"preset": str(path), "methods": entries}))
        return
    for method, entry in entries.items():
        typer.echo(f"{method}@{path.stem}: {entry['params']}")
    typer.echo(f"Preset: {path}")
