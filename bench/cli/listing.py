"""`bench list`: what can be compared."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from bench.cli.options import AsJson

EXAMPLE = "bench list methods mfm-g"
KINDS = ("tasks", "rewards", "methods", "metrics", "suites")


def listing(
    kind: Annotated[str, typer.Argument(help="tasks, rewards, methods, metrics or suites.")],
    name: Annotated[str | None, typer.Argument(help="One of them, with its parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what can be compared; with a NAME, show its parameters and ranges."""
    from bench.core.params import UserError, nearest

    if kind not in KINDS:
        raise UserError(f"cannot list '{kind}': {nearest(kind, KINDS)}")
    if kind == "suites":
        rows = _suites()
    elif name is not None:
        _describe(kind, name, as_json)
        return
    else:
        from bench.core import plugins

        rows = [asdict(plugin) for plugin in plugins.describe(kind)]  # type: ignore[arg-type]
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


def _describe(kind: str, name: str, as_json: bool) -> None:
    """One plugin with its docstring and parameters."""
    import dataclasses
    import inspect

    from bench.core import plugins
    from bench.core.params import range_of

    cls = plugins.load(kind, name)  # type: ignore[arg-type]
    fields = (
        dataclasses.fields(getattr(cls, "Params", plugins.Plugin)) if hasattr(cls, "Params") else ()
    )
    rows = []
    for field in fields:
        allowed = range_of(cls.Params, field.name)
        bounds = (
            "|".join(map(str, allowed.choices))
            if allowed.choices
            else f"[{allowed.low}, {allowed.high}]"
            if allowed.low is not None or allowed.high is not None
            else str(field.type)
        ) + ("" if allowed.least is None else f", chosen from {allowed.least}")
        rows.append(
            {"name": field.name, "default": field.default, "range": bounds, "help": allowed.help}
        )
    doc = inspect.getdoc(cls) or ""
    if as_json:
        typer.echo(json.dumps({"name": name, "doc": doc, "parameters": rows}, default=str))
        return
    typer.echo(f"{name}: {doc}\n")
    effort = getattr(cls, "effort", ())
    for row in rows:
        mark = " (buys compute)" if row["name"] in effort else ""
        typer.echo(
            f"  {row['name']:<14} {row['default']!s:<12} {row['range']:<34} {row['help']}{mark}"
        )
