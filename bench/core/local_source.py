"""The source files behind a module: its own, and those of the local modules that it imports.

Local is what lies beside it, in its package or below its folder: neither the standard library, nor
what is installed, nor this project.  A result that is cached under their digest is made again when
a helper is edited.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

INSTALLED = tuple(
    Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "purelib", "platlib")
)
OURS = Path(__file__).resolve().parents[2]


def digest_of(module: str) -> str:
    """SHA-256 over the sources of a module and of what it imports locally, in order of names.

    Raises ModuleNotFoundError if there is no such module.  A module without a source file, such as
    a built-in one, counts with its name alone.
    """
    found: dict[str, Path | None] = {}
    _collect(module, found)
    total = hashlib.sha256()
    for name in sorted(found):
        path = found[name]
        total.update(name.encode() + b"\0" + (path.read_bytes() if path else b"") + b"\0")
    return total.hexdigest()


def _collect(module: str, found: dict[str, Path | None]) -> None:
    found[module] = path = _file(module)
    if path is None:
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    above = module.rpartition(".")[0]  # importing a module runs the packages that hold it
    for name in sorted({*_imports(path, package), *([above] if above else [])}):
        if name not in found and (inner := _local(name)):
            _collect(inner, found)


def _file(module: str) -> Path | None:
    """The source file of a module; of one that is loaded without a spec, the file that it names."""
    loaded = sys.modules.get(module)
    if loaded is not None and loaded.__spec__ is None:
        named = getattr(loaded, "__file__", None)
        return Path(named).resolve() if named else None
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    if not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).resolve()


def _local(name: str) -> str | None:
    """The name, if it is a module whose source is local."""
    try:
        path = _file(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if path is None or path.is_relative_to(OURS / "bench"):
        return None
    return None if any(path.is_relative_to(folder) for folder in INSTALLED) else name


def _imports(path: Path, package: str) -> Iterator[str]:
    """Names of modules that a file imports, anywhere in it; attributes may be among them."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
