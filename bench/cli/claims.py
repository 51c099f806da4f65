"""`bench claims`: what a run says of the paper's claims, and of yours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.completion import runs
from bench.cli.console import wide_console
from bench.cli.options import AsJson

if TYPE_CHECKING:
    from reports.data.claims import Claim
    from reports.data.verdicts import Verdict

EXAMPLE = "bench claims runs/quickstart"


def claims(
    run: Annotated[str, typer.Argument(help="A run folder, or its URL.", autocompletion=runs)],
    files: Annotated[
        list[Path] | None,
        typer.Option("--claims", help="A YAML file of claims of yours; may be given repeatedly."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Claims of the paper, of our pages and of yours: which hold in a run, by how much."""
    from bench.record.copies import folder_of
    from bench.record.store import open_run
    from reports.data.marks import summary_of
    from reports.data.run import load_run
    from reports.data.verdicts import verdicts
    from reports.text.claims import as_data

    asked = _claims(files or [])
    with folder_of(open_run(run), samples=True) as folder:
        found = verdicts(summary_of(load_run(folder)), asked)
    if as_json:
        typer.echo(json.dumps([as_data(v) for v in found], allow_nan=False))
    else:
        _show(found)


def _claims(files: list[Path]) -> list[Claim]:
    from bench.core.params import UserError
    from reports.data.claims import ClaimError, read_claims, shipped_claims

    try:
        return [*shipped_claims(), *(claim for file in files for claim in read_claims(file))]
    except ClaimError as error:
        raise UserError(str(error)) from None


def _show(found: list[Verdict]) -> None:
    """Those that were measured with their figures, then the others and what they would need."""
    from rich.markup import escape

    from reports.data.verdicts import OUTCOMES
    from reports.text.claims import told

    console = wide_console(100)
    for verdict in (v for v in found if v.evidence):
        style = STYLES[verdict.outcome]
        console.print(f"[{style}]{verdict.outcome}[/]  {escape(verdict.claim.says)}")
        console.print(f"  {escape(told(verdict))}", style="dim", highlight=False)
    for verdict in (v for v in found if not v.evidence):
        line = f"not measured  {verdict.claim.id}: {verdict.why}"
        console.print(escape(line), style="dim", highlight=False)
    counts = (f"{sum(v.outcome == o for v in found)} {o}" for o in OUTCOMES)
    typer.echo(", ".join(counts))


STYLES = {
    "holds": "green",
    "does not hold": "red",
    "cannot be told": "yellow",
}
