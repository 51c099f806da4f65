"""`bench compare`: two runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import AsJson

EXAMPLE = "bench compare runs/a runs/b"


def compare(
    first: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
    second: Annotated[str, typer.Argument(help="Another run folder, or its URL.")],
    as_json: AsJson = False,
) -> None:
    """Tables of two runs side by side."""
    from bench.record.copies import folder_of
    from bench.record.store import open_run
    from reports.data.two_runs import compare_runs as table

    with folder_of(open_run(first)) as a, folder_of(open_run(second)) as b:
        frame = table(a, b)
    typer.echo(frame.to_json(orient="records") if as_json else frame.to_string(index=False))
