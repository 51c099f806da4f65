"""`bench check`: the contract tests, for people who write methods, rewards and tasks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as o

if TYPE_CHECKING:
    from bench.conformance.findings import Finding

EXAMPLE = "bench check method mfm-g:draws=4 -t digits"
COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}


def check(
    kind: Annotated[str, typer.Argument(help="method, reward or task.")],
    name: Annotated[str, typer.Argument(help="An installed one, e.g. dps or dps:steps=10.")],
    task: o.Tasks = [],  # noqa: B006  # typer reads list defaults and never mutates them
    reward: o.Rewards = [],  # noqa: B006
    as_json: o.AsJson = False,
) -> None:
    """Run the contract tests of a plugin; exit code 1 if one fails."""
    from bench.conformance.check import conform

    found = conform(kind, name, task, reward)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        _print(found)
    if any(finding.status == "fail" for finding in found):
        raise typer.Exit(1)


def _print(found: list[Finding]) -> None:
    """One aligned line per check, then the counts."""
    checks = max(len(finding.check) for finding in found)
    worlds = max(len(finding.where) for finding in found)
    for finding in found:
        mark = typer.style(finding.status, fg=COLOURS[finding.status])
        line = f"{mark}  {finding.where:<{worlds}}  {finding.check:<{checks}}  {finding.reason}"
        typer.echo(line.rstrip())
    counts = Counter(finding.status for finding in found)
    typer.echo(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped.")
