"""`bench compare`: two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import AsJson

EXAMPLE = "bench compare runs/a runs/b"


def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another run folder.")],
    as_json: AsJson = False,
) -> None:
    """Two runs side by side: what is identical, what is not, and what differs in their making."""
    from bench.record.store import open_run

    show(open_run(str(first)).folder, open_run(str(second)).folder, as_json)


def show(first: Path, second: Path, as_json: bool) -> None:
    """The table, the count of verdicts, and the provenance that differs."""
    from reports.data.two_runs import compare_runs, counted, provenance

    frame = compare_runs(first, second)
    if as_json:
        typer.echo(frame.to_json(orient="records"))
        return
    changed = frame[frame["verdict"] != "identical"] if len(frame) else frame
    if len(changed):
        typer.echo(changed.to_string(index=False))
    typer.echo(counted(frame))
    for term, a, b in provenance(first, second):
        typer.echo(f"{term} differs: {a or 'not recorded'} | {b or 'not recorded'}")
