"""`bench list`: what can be compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import options as o
from bench.cli.completion import KINDS, kinds

EXAMPLE = "bench list methods mfm-g"


def listing(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(KINDS)}.", autocompletion=kinds)],
    name: Annotated[str | None, typer.Argument(help="One of them, with all that it is.")] = None,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """List what can be compared, and what was; with a NAME, show its parameters and partners."""
    from bench.core.params import UserError, nearest

    if kind not in KINDS:
        raise UserError(f"cannot list '{kind}': {nearest(kind, KINDS)}")
    if name is not None:
        _one(kind, name, as_json)
        return
    rows = _rows(kind, root)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    origins = [_origin(row) for row in rows]
    wide = max(map(len, origins), default=0)
    for row, origin in zip(rows, origins, strict=True):
        error = row.get("error", "")
        said = typer.style(f"broken: {error}", fg="red") if error else row["summary"]
        typer.echo(f"{row['name']:<{width}}  {origin:<{wide}}  {said}")


def _one(kind: str, name: str, as_json: bool) -> None:
    from bench.cli.describing import describe, describe_suite
    from bench.core.params import UserError

    if kind in ("runs", "presets"):
        raise UserError(f"'bench list {kind}' shows all of them: leave '{name}' out")
    if kind == "suites":
        describe_suite(name, as_json)
    else:
        describe(kind, name, as_json)


def _rows(kind: str, root: str) -> list[dict[str, Any]]:
    """Names, summaries and origins of a kind."""
    from bench.core import plugins

    made: dict[str, Callable[[str], list[dict[str, Any]]]] = {
        "suites": lambda _: _suites(),
        "runs": _runs,
        "presets": _presets,
    }
    if kind in made:
        return made[kind](root)
    return [asdict(plugin) for plugin in plugins.describe(kind)]  # type: ignore[arg-type]


def _origin(row: dict[str, Any]) -> str:
    """The package that something comes from; of another's, with its version."""
    version = row.get("version", "")
    ours = row["distribution"] == "tiltbench" or not version
    return str(row["distribution"]) if ours else f"{row['distribution']} {version}"


def _suites() -> list[dict[str, Any]]:
    from bench.core.documents import read_yaml
    from bench.plan.suite import shipped

    out = []
    for name, path in shipped().items():
        content = read_yaml(path.read_text(encoding="utf-8"))
        out.append(
            {"name": name, "summary": content.get("description", ""), "distribution": "tiltbench"}
        )
    return out


def _runs(root: str) -> list[dict[str, Any]]:
    """Every run below a folder, with how its cells ended."""
    from bench.core.params import UserError
    from bench.record.files import RunFiles
    from bench.record.projections import read_table

    found = []
    for suite in sorted(Path(root).glob("*/suite.yaml")):
        try:
            statuses = list(read_table(RunFiles(root, suite.parent.name), "cells").status)
        except FileNotFoundError:
            statuses = []
        except (UserError, AttributeError):
            told = f"its cells.parquet is damaged: 'bench report {suite.parent}' makes it again"
            found.append(_own(suite.parent.name, told, str(root)))
            continue
        counts = ", ".join(f"{n} {status}" for status, n in sorted(Counter(statuses).items()))
        found.append(_own(suite.parent.name, counts or "nothing has finished yet", str(root)))
    return found


def _presets(root: str) -> list[dict[str, Any]]:
    """Every preset below a folder, with the methods that it has parameters for."""
    from bench.plan import presets

    names = sorted(path.stem for path in presets.folder(root).glob("*.yaml"))
    said = {name: ", ".join(presets.read(name, root)["methods"]) for name in names}
    return [_own(name, methods, str(presets.folder(root))) for name, methods in said.items()]


def _own(name: str, summary: str, where: str) -> dict[str, Any]:
    return {"name": name, "summary": summary, "distribution": where}
