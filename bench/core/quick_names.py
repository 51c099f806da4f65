"""Names that say where a class is: `module:Class` and `path/to/file.py:Class`.

They stand wherever the name of a method, a reward, a task or a metric does, with parameters behind
another colon: `file.py:Mine:draws=4`.  Files and modules are looked for from the working folder.
Their identity is the digest of the source and of the local modules that it imports.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.core.local_source import digest_of, search_here, sources_of
from bench.core.params import UserError, nearest

CONTRACTS = {
    "methods": "bench.core.methods:Method",
    "rewards": "bench.core.tasks:Reward",
    "tasks": "bench.core.tasks:Task",
    "metrics": "bench.core.metrics:Metric",
}
"""The class that those of a group are subclasses of; by name, as it imports torch."""

DIGITS = 16
"""Of an identity in versions."""


def is_quick(name: str) -> bool:
    """Whether a name says where its class is."""
    return ":" in name


def load(group: str, name: str) -> tuple[type[Any], str]:
    """The class and its identity; UserError in one sentence if it is not there or no such kind."""
    where, _, wanted = name.rpartition(":")
    module = _module(where, name)
    cls = getattr(module, wanted, None)
    if cls is None:
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UserError(f"{where} has no '{wanted}': {nearest(wanted, classes)}")
    holder, _, contract = CONTRACTS[group].partition(":")
    base = getattr(importlib.import_module(holder), contract)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise UserError(
            f"'{name}' must be a subclass of bench.api.{contract}{_instead(group, cls)}"
        )
    return cls, digest_of(module.__name__)[:DIGITS]


def has_changed(name: str, identity: str) -> bool:
    """Whether the source behind a name is no longer what was loaded; one that is gone has not."""
    module = _module_name(name)
    try:
        return module in sys.modules and digest_of(module)[:DIGITS] != identity
    except (OSError, ImportError, SyntaxError):
        return False


def forget(name: str) -> None:
    """Take the module of a name and the local ones that it imports for not yet imported."""
    for module in sources_of(_module_name(name)):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()


def _module_name(name: str) -> str:
    where = name.rpartition(":")[0]
    return Path(where).stem if where.endswith(".py") else where


def _instead(group: str, found: Any) -> str:
    """What to do with what is no class."""
    if group != "rewards" or isinstance(found, type) or not callable(found):
        return ""
    return "; a function is scored by the reward callable:function=MODULE:NAME"


def _module(where: str, name: str) -> ModuleType:
    """The module, imported; whatever it raises is one sentence."""
    try:
        return _of_file(where) if where.endswith(".py") else _of_path(where)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"'{name}' cannot be loaded: {type(error).__name__}: {error}") from error


def _of_path(module: str) -> ModuleType:
    """An importable module; the working folder is searched last, as console scripts leave it out.

    Raises UserError where there is none.
    """
    search_here()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"there is no module '{module}': write module:Class or file.py:Class, and parameters "
            "as name:key=value"
        ) from None


def _of_file(where: str) -> ModuleType:
    """The module of a file, once: its neighbours can be imported, as if it were run.

    Raises UserError where there is no such file, or where another module has its name.
    """
    path = Path(where).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"there is no file '{where}' (looked for in {Path.cwd()})")
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None):
        if Path(str(known.__file__)).resolve() == path:
            return known
        raise UserError(
            f"'{where}' has the name of another module, {known.__file__}: rename the file"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if known is not None or spec is None or spec.loader is None:
        raise UserError(f"'{where}' has the name of a module of Python: rename the file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
