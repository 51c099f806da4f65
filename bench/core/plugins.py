"""Plugin discovery: entry points, names that say where a class is, and objects of this session.

Built-in and third-party methods, rewards, tasks and metrics are found in the same way.  Names and
one-line summaries come without importing the plugin (and so without torch).

Beside installed names there are two more kinds, which go the same way through plans and cells:
`module:Class` and `file.py:Class` (`bench.core.quick_names`), and what a notebook hands over
(`add`).  Both carry a digest of what they are, so that a cell is made again when they change.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from bench.core import quick_names
from bench.core.params import UserError, nearest

Group = Literal["methods", "rewards", "tasks", "metrics"]

OURS = "tiltbench"
"""The distribution whose plugins are built in."""


@dataclass(frozen=True)
class Plugin:
    """A plugin as its entry point describes it; `error` says why it cannot be used, if so."""

    name: str
    target: str
    distribution: str
    version: str
    summary: str
    error: str = ""


@dataclass(frozen=True)
class Local:
    """A plugin that is not installed: a class, or what stands for one, with what it is.

    identity: a digest of all that decides its answers.
    """

    group: Group
    name: str
    cls: Any
    identity: str


_LOCAL: dict[tuple[Group, str], Local] = {}


def add(*found: Local) -> None:
    """Make local plugins known under their names, from now on and in this process."""
    _LOCAL.update({(local.group, local.name): local for local in found})


def local(group: Group, name: str) -> Local | None:
    """The local plugin of a name; one that says where it is, is loaded from there."""
    if (group, name) not in _LOCAL and quick_names.is_quick(name):
        _LOCAL[group, name] = Local(group, name, *quick_names.load(group, name))
    return _LOCAL.get((group, name))


def renew() -> None:
    """Forget what was loaded from files that have been edited since; it is loaded anew when named.

    For sessions that last: a command ends before anybody edits anything.
    """
    quick = [(key, kept) for key, kept in _LOCAL.items() if quick_names.is_quick(key[1])]
    old = [key for key, kept in quick if quick_names.has_changed(key[1], kept.identity)]
    for key in old:
        quick_names.forget(key[1])
        del _LOCAL[key]


def locals_among(names: Iterable[tuple[Group, str]], text: str = "") -> tuple[Local, ...]:
    """The local plugins of these names, and the rewards that `text` mentions, such as parts."""
    wanted = set(names)
    named = (key for key in _LOCAL if key in wanted or (key[0] == "rewards" and key[1] in text))
    return tuple(_LOCAL[key] for key in named)


@cache
def _installed(group: Group) -> dict[str, list[EntryPoint]]:
    """Entry points of a group by name; one name with several targets is a clash."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"bench.{group}"):
        same = found.setdefault(point.name, [])
        if all(other.value != point.value for other in same):
            same.append(point)
    return found


def points(group: Group) -> dict[str, EntryPoint]:
    """Entry points of a group by name; of a name that clashes, the first."""
    return {name: same[0] for name, same in _installed(group).items()}


def clash(group: Group, name: str) -> str:
    """Which packages define one name differently, in a sentence; "" for a name that is clear."""
    same = _installed(group).get(name, [])
    if len(same) < 2:
        return ""
    owners = " and ".join(f"{_owner(point)[0]} ({point.value})" for point in same)
    return f"two installed packages define the {group[:-1]} '{name}': {owners}; uninstall one"


def load(group: Group, name: str) -> type[Any]:
    """The plugin's class; unknown names suggest the nearest known one."""
    here = local(group, name)
    if here is not None:
        found: type[Any] = here.cls
        return found
    known = points(group)
    if name not in known:
        raise UserError(f"unknown {group[:-1]} '{name}': {nearest(name, known)}")
    if clashing := clash(group, name):
        raise UserError(clashing)
    try:
        cls: type[Any] = known[name].load()
    except (Exception, SystemExit) as error:  # a third party's module may raise anything
        raise UserError(f"the {group[:-1]} '{name}' cannot be loaded: {error}") from error
    return cls


def version_of(group: Group, name: str) -> str:
    """What goes into cell ids: the class's version and, for third parties, the distribution's.

    Built-ins raise their class version whenever their samples change; others may forget to.  What
    is not installed has no distribution: its identity takes that place.
    """
    own = str(getattr(load(group, name), "version", "1"))
    here = local(group, name)
    if here is not None:
        return f"{own}+{here.identity}"
    dist = points(group)[name].dist
    return own if dist is None or _is_ours(dist) else f"{own}+{dist.version}"


def name_of(group: Group, cls: type[Any]) -> str | None:
    """The name under which a class is installed, if it is."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    clear = (name for name, point in points(group).items() if point.value == target)
    return next((name for name in clear if not clash(group, name)), None)


@cache
def _is_ours(dist: Distribution) -> bool:
    """Whether a plugin came with us; a distribution's name is parsed anew whenever it is asked."""
    return dist.name == OURS


def _owner(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point belongs to."""
    dist = point.dist
    return (dist.name, dist.version) if dist is not None else ("?", "?")


def describe(group: Group) -> list[Plugin]:
    """Every plugin of a group, sorted, without importing any that came with us.

    Those of others are imported, so that one that is broken is shown with its error.
    """
    found = []
    for name, same in sorted(_installed(group).items()):
        for point in same:
            error = clash(group, name) or _error(point)
            found.append(Plugin(name, point.value, *_owner(point), _summary(point.value), error))
    return found


def _error(point: EntryPoint) -> str:
    """Why a third party's plugin cannot be loaded, in a line; "" for one that can."""
    if _owner(point)[0] == OURS:
        return ""
    try:
        point.load()
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""


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
