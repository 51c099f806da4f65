"""`bench compare`: two runs side by side."""

from __future__ import annotations

from pathlib import Path
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
    """Two runs side by side: what is identical, what is not, and what differs in their making."""
    from bench.record.copies import folder_of
    from bench.record.store import open_run

    with folder_of(open_run(first)) as a, folder_of(open_run(second)) as b:
        show(a, b, as_json)


def show(first: Path, second: Path, as_json: bool) -> None:
    """The table, the count of verdicts, and the provenance that differs."""
    from reports.data.two_runs import compare_runs, counted, provenance

    frame = compare_runs(first, second)
    if as_json:
        typer.echo(frame.to_json(orient="records"))
        return
    console = wide_console(160)
    changed = frame[~_alike(frame)] if len(frame) else frame
    for problem, rows in changed.groupby(["task", "reward", "strength"], sort=False):
        console.print(_table(problem, rows.dropna(axis="columns", how="all")))
    typer.echo(counted(frame))
    for term, a, b in provenance(first, second):
        typer.echo(f"{term} differs: {a or 'not recorded'} | {b or 'not recorded'}")


def _alike(frame: pd.DataFrame) -> pd.Series[bool]:
    """Rows of which there is nothing to say: the same value, or none for the same reason."""
    silent = (frame["verdict"] == "no value") & (frame["note_a"] == frame["note_b"])
    return (frame["verdict"] == "identical") | silent


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
