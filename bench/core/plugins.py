"""Plugin discovery: entry points, and nothing else.

Built-in and third-party methods, rewards, tasks and metrics are found in the same way.  Names and
one-line summaries come without importing the plugin (and so without torch).
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from bench.core.params import UserError, nearest

Group = Literal["methods", "rewards", "tasks", "metrics"]


@dataclass(frozen=True)
class Plugin:
    """A plugin as its entry point describes it."""

    name: str
    target: str
    distribution: str
    version: str
    summary: str


@cache
def points(group: Group) -> dict[str, EntryPoint]:
    """Entry points of a group by name; two plugins of one name are an error."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"bench.{group}"):
        if point.name in found and found[point.name].value != point.value:
            raise UserError(
                f"two installed packages define the {group[:-1]} '{point.name}': "
                f"{found[point.name].value} and {point.value}; uninstall one"
            )
        found[point.name] = point
    return found


def load(group: Group, name: str) -> type[Any]:
    """The plugin's class; unknown names suggest the nearest known one."""
    known = points(group)
    if name not in known:
        raise UserError(f"unknown {group[:-1]} '{name}': {nearest(name, known)}")
    try:
        cls: type[Any] = known[name].load()
    except Exception as error:  # a third party's module may raise anything when imported
        raise UserError(f"the {group[:-1]} '{name}' cannot be loaded: {error}") from error
    return cls


def version_of(group: Group, name: str) -> str:
    """What goes into cell ids: the class's version and, for third parties, the distribution's.

    Built-ins raise their class version whenever their samples change; others may forget to.
    """
    own = str(getattr(load(group, name), "version", "1"))
    dist = points(group)[name].dist
    return own if dist is None or _is_ours(dist) else f"{own}+{dist.version}"


@cache
def _is_ours(dist: Distribution) -> bool:
    """Whether a plugin came with us; a distribution's name is parsed anew whenever it is asked."""
    return dist.name == "tiltbench"


def describe(group: Group) -> list[Plugin]:
    """Every plugin of a group, sorted, without importing any."""
    out = []
    for name, point in sorted(points(group).items()):
        dist = point.dist
        owner = (dist.name, dist.version) if dist is not None else ("?", "?")
        out.append(Plugin(name, point.value, *owner, _summary(point.value)))
    return out


def _summary(target: str) -> str:
    """First line of the class docstring, read from the source text."""
    module, _, cls = target.partition(":")
    source = _source(module)
    if source is None:
        return ""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"(its source cannot be read: {error})"
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


@cache
def _source(module: str) -> str | None:
    """The text of a module, found without importing it or its parents' code."""
    parts = module.split(".")
    spec = importlib.util.find_spec(parts[0])
    if spec is None or not spec.submodule_search_locations:
        return None if spec is None or spec.origin is None else _read(Path(spec.origin))
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts[1:])
    file = folder.with_suffix(".py")
    return _read(file if file.is_file() else folder / "__init__.py")


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None
