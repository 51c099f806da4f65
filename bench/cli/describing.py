"""`bench list KIND NAME`: all that is known of one plugin or suite."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import typer


@dataclasses.dataclass(frozen=True)
class Described:
    """What a plugin says of itself; facts are words by what they are about."""

    name: str
    doc: str
    parameters: list[dict[str, Any]]
    effort: tuple[str, ...]
    facts: dict[str, str | list[str]]

    def spelled(self) -> Iterator[tuple[str, str]]:
        """Facts as text."""
        for key, value in self.facts.items():
            yield key, value if isinstance(value, str) else ", ".join(value) or "none"


def described(kind: str, name: str) -> Described:
    """One plugin: its docstring, its parameters, what buys compute, and what it goes with."""
    from bench.core import plugins

    cls = plugins.load(kind, name)  # type: ignore[arg-type]
    rows = [*_parameters(cls), *([STRENGTH_ROW] if kind == "rewards" else [])]
    doc, effort = inspect.getdoc(cls) or "", tuple(getattr(cls, "effort", ()))
    return Described(name, doc, rows, effort, dict(_facts(kind, cls)))


def describe(kind: str, name: str, as_json: bool) -> None:
    """Show one plugin."""
    found = described(kind, name)
    if as_json:
        told = {"name": name, "doc": found.doc, "parameters": found.parameters, **found.facts}
        typer.echo(json.dumps(told, default=str))
        return
    typer.echo(f"{name}: {found.doc}\n")
    for row in found.parameters:
        mark = " (buys compute)" if row["name"] in found.effort else ""
        typer.echo(
            f"  {row['name']:<14} {row['default']!s:<12} {row['range']:<34} {row['help']}{mark}"
        )
    for key, value in found.spelled():
        typer.echo(f"\n{key}: {value}")


STRENGTH_ROW = {
    "name": "strength",
    "default": 1.0,
    "range": "a number",
    "help": "the factor of the reward in the law p(x) exp(strength r(x)) / Z",
}
"""What every reward takes beside its own parameters."""


def _parameters(cls: type[Any]) -> list[dict[str, Any]]:
    from bench.core.params import range_of

    fields = dataclasses.fields(cls.Params) if hasattr(cls, "Params") else ()
    return [
        {
            "name": field.name,
            "default": field.default,
            "range": _range(range_of(cls.Params, field.name), field),
            "help": range_of(cls.Params, field.name).help,
        }
        for field in fields
    ]


def _range(allowed: Any, field: dataclasses.Field[Any]) -> str:
    if allowed.choices:
        bounds = "|".join(map(str, allowed.choices))
    elif allowed.low is not None or allowed.high is not None:
        bounds = f"[{allowed.low}, {allowed.high}]"
    else:
        bounds = str(field.type)
    return bounds + ("" if allowed.least is None else f", chosen from {allowed.least}")


def _facts(kind: str, cls: type[Any]) -> Iterator[tuple[str, str | list[str]]]:
    """What else can be said of a plugin of a kind."""
    from bench.core.params import UserError

    if kind == "metrics":
        yield "better", {"none": "neither way"}.get(cls.direction, cls.direction)
        yield "measures", cls.measures or "what its summary says"
        yield "smallest honest sample", str(cls.smallest_n)
    elif kind == "methods":
        yield "standing", cls.standing
        with suppress(UserError):  # of one that needs parameters
            yield "needs", sorted(need.value for need in cls.create().needs)
        if cls.caveat:
            yield "caveat", cls.caveat
    elif kind in ("tasks", "rewards"):
        try:
            own = cls.create()
        except UserError as error:
            yield "goes with", f"known with parameters: {error}"
            return
        if kind == "tasks":
            yield "metrics", list(own.metrics)
        other = "rewards" if kind == "tasks" else "tasks"
        yield f"goes with the {other}", list(_partners(own, other))


def _partners(own: Any, group: str) -> Iterator[str]:
    """Names of installed tasks or rewards, with default parameters, that fit."""
    from bench.core import plugins

    for name in sorted(plugins.points(group)):  # type: ignore[arg-type]
        # What cannot be made without parameters or packages is left out.
        with suppress(Exception):
            other = plugins.load(group, name).create()  # type: ignore[arg-type]
            reward, task = (other, own) if group == "rewards" else (own, other)
            if reward.compatible(task) is None:
                yield name


def describe_suite(name: str, as_json: bool) -> None:
    """The content of a suite."""
    import yaml

    from bench.plan.suite import load_suite

    content = load_suite(name)
    dumped = json.dumps(content) if as_json else yaml.safe_dump(content, sort_keys=False)
    typer.echo(dumped)
