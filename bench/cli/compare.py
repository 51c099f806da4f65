"""`bench compare`: two runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.console import wide_console
from bench.cli.options import AsJson

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

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
    if as_json:
        typer.echo(frame.to_json(orient="records"))
        return
    console = wide_console(160)
    for problem, rows in frame.groupby(["task", "reward", "strength"], sort=False):
        console.print(_table(problem, rows.dropna(axis="columns", how="all")))


def _table(problem: tuple[Any, ...], rows: pd.DataFrame) -> Table:
    """The rows of a problem; long names are folded, so that it fits the terminal."""
    from rich import box
    from rich.table import Table

    task, reward, strength = problem
    made = Table(title=f"{task} · {reward}, strength {strength:g}", box=box.SIMPLE_HEAD)
    shown = rows.drop(columns=["task", "reward", "strength"])
    for name in shown.columns:
        made.add_column(str(name), overflow="fold")
    for row in shown.itertuples(index=False):
        made.add_row(*map(_said, row))
    return made


def _said(value: Any) -> str:
    """Four significant digits; nothing where nothing is known."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)
