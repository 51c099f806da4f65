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
    """Tables of two runs side by side."""
    from bench.record.store import open_run
    from reports.data.two_runs import compare_runs as table

    frame = table(open_run(str(first)).folder, open_run(str(second)).folder)
    typer.echo(frame.to_json(orient="records") if as_json else frame.to_string(index=False))
