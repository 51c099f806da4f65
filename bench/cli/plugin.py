"""`bench check` and `bench new`: for people who write methods, rewards and tasks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options as o

if TYPE_CHECKING:
    from bench.conformance.findings import Finding

COLOURS = {"pass": "green", "fail": "red", "skip": "yellow"}
NEW_KINDS = ("method", "reward")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("check", epilog="bench check method mfm-g:draws=4 -t digits")(check)
    app.command("new", epilog="bench new method noise-search --to ../noise-search")(new)


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


def new(
    kind: Annotated[str, typer.Argument(help="method or reward.")],
    name: Annotated[str, typer.Argument(help="Its name, e.g. noise-search.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to write (default: tiltbench-NAME).")
    ] = None,
) -> None:
    """Write a working plugin package to start from."""
    from bench.cli.templates import package, words

    _refuse(kind, name)
    distribution = words(kind, name)["distribution"]
    folder = to or Path(distribution)
    _write(folder, package(kind, name))
    typer.echo(f"{folder} holds the {kind} '{name}'.  Next:")
    typer.echo(f"  pip install -e {folder}\n  bench check {kind} {name}")


def _refuse(kind: str, name: str) -> None:
    """Raise a UserError for a kind or a name that cannot be."""
    from bench.cli.templates import valid
    from bench.core import plugins
    from bench.core.params import UserError, nearest

    if kind not in NEW_KINDS:
        raise UserError(f"cannot write a new '{kind}': {nearest(kind, NEW_KINDS)}")
    if not valid(name):
        raise UserError(f"'{name}' is not a name: use lower-case words joined by hyphens")
    if name in plugins.points("methods" if kind == "method" else "rewards"):
        raise UserError(f"there is a {kind} '{name}' already: choose another name")


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write files below a folder that must be new or empty."""
    from bench.core.params import UserError

    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: choose another folder with --to")
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror or error})") from error
