"""`bench audit`: predicted work against measured work, and what was not matched."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.console import wide_console
from bench.cli.options import AsJson

if TYPE_CHECKING:
    from bench.runner.audit import Finding

EXAMPLE = "bench audit runs/quickstart --flops"


def audit(
    run: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
    flops: Annotated[
        bool, typer.Option("--flops", help="Run a batch of every method under the FLOP counter.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute every cell's work from its parameters and compare with what was measured."""
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record.store import open_run
    from bench.runner import audit as auditing
    from bench.runner.run import pilots_of

    store = open_run(run)
    plan = expand(build_suite(store.suite()), pilots_of(store))
    findings = auditing.audit(store, plan, flops)
    unmatched = auditing.not_matched(store.table("cells"))
    if as_json:
        rows = [{**asdict(f), "flop_error": f.flop_error, "ok": f.ok} for f in findings]
        typer.echo(json.dumps({"findings": rows, "not_matched": unmatched}))
    else:
        _print(findings, unmatched, flops)
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding], unmatched: list[str], flops: bool) -> None:
    from rich import box
    from rich.table import Table

    console = wide_console(140)
    table = Table(box=box.SIMPLE_HEAD, title="Audit", title_justify="left")
    for column in ("task", "reward", "method", "budget"):
        table.add_column(column, overflow="fold")
    for column in ("predicted", "measured", "rows", "use", *(["FLOP error"] if flops else [])):
        table.add_column(column, justify="right")
    table.add_column("")
    for f in findings:
        table.add_row(f.task, f.reward, f.method, f.budget, *_figures(f, flops), _note(f))
    console.print(table)
    bad = [f for f in findings if not f.ok]
    console.print(f"{len(findings) - len(bad)} of {len(findings)} agree.")
    console.print("What was not matched:")
    for line in unmatched:
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _figures(f: Finding, flops: bool) -> list[Any]:
    error = f.flop_error
    shown = [
        f"{f.predicted:g}",
        f"{f.measured:g}",
        "equal" if f.rows_equal else "[red]differ[/red]",
        "" if f.use is None else f"{f.use:.2f}",
    ]
    return [*shown, "-" if error is None else f"{error:+.2%}"] if flops else shown


def _note(f: Finding) -> str:
    if f.upper_bound:
        return f"upper bound, mean use {f.measured / f.predicted:.2f}"
    return "underused" if f.underused else ""
