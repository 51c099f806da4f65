"""`bench list`, `bench report`, `bench compare`, `bench doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("list", epilog="bench list methods mfm-g")(list_)
    app.command("report", epilog="bench report runs/quickstart")(report)
    app.command("compare", epilog="bench compare runs/a runs/b")(compare)
    app.command("doctor")(doctor)


KINDS = ("tasks", "rewards", "methods", "metrics", "suites")


def list_(
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
    for row in rows:
        owner = "" if row["distribution"] == "tiltbench" else f"  [{row['distribution']}]"
        typer.echo(f"{row['name']:<{width}}  {row['summary']}{owner}")


def _suites() -> list[dict[str, Any]]:
    import yaml

    from bench.plan.suite import shipped

    out = []
    for name, path in shipped().items():
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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
        )
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


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, e.g. runs/quickstart.")],
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Also write the tables to this file."),
    ] = None,
) -> None:
    """(Re)build the HTML report, also while the run is going on."""
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record.store import open_run
    from bench.record.tables import write_tables
    from bench.runner.run import pilots_of
    from reports.html import build

    store = open_run(str(run))
    write_tables(store, expand(build_suite(store.suite()), pilots_of(store)))
    typer.echo(f"Report: {build(store.folder)}")
    if markdown is not None:
        from reports.tables.markdown import markdown as tables

        markdown.write_text(tables(store.folder), encoding="utf-8")
        typer.echo(f"Tables: {markdown}")


def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another run folder.")],
    as_json: AsJson = False,
) -> None:
    """Tables of two runs side by side."""
    from bench.record.store import open_run
    from reports.data.two_runs import compare as table

    frame = table(open_run(str(first)).folder, open_run(str(second)).folder)
    typer.echo(frame.to_json(orient="records") if as_json else frame.to_string(index=False))


def doctor() -> None:
    """What is installed, what is missing, and what it would cost to add."""
    import importlib.metadata
    import os
    import shutil

    for name in ("torch", "ray", "mlflow", "optuna", "torchvision", "open_clip_torch", "diffusers"):
        try:
            typer.echo(f"{name:<18}{importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            extra = "pip install 'tiltbench[images]' (about 1 GB)"
            typer.echo(f"{name:<18}missing: {extra}")
    from bench.core.params import UserError
    from bench.models import weights

    for name in ("digits", "gmm-paper"):
        try:
            path = weights.find(name)
            typer.echo(f"weights {name:<10}{path.stat().st_size / 1e6:.1f} MB, {path}")
        except UserError as error:
            typer.echo(f"weights {name:<10}{error}")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    typer.echo(f"{'cores':<18}{os.cpu_count()}\n{'free disk':<18}{free:.0f} GB")
