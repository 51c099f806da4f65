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
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

INSTALLED = tuple(
    Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "purelib", "platlib")
)
PACKAGES = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages, of this environment or of one that it borrows from."""
OURS = Path(__file__).resolve().parents[2]


def search_here() -> None:
    """Have modules of the working folder found, after all others: console scripts leave it out."""
    with suppress(OSError):  # the folder may be gone
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)


def digest_of(module: str) -> str:
    """SHA-256 over the sources of a module and of what it imports locally, in order of names.

    Raises ModuleNotFoundError if there is no such module.  A module without a source file, such as
    a built-in one, counts with its name alone.  Raises SyntaxError if Python cannot read it; what
    it imports and cannot be read counts with its bytes, as it may never be run.
    """
    source = _file(module)
    if source is not None:
        _parsed(source)
    total = hashlib.sha256()
    for name, path in sorted(sources_of(module).items()):
        total.update(name.encode() + b"\0" + (path.read_bytes() if path else b"") + b"\0")
    return total.hexdigest()


def sources_of(module: str) -> dict[str, Path | None]:
    """The module and the local modules that it imports, with their files."""
    found: dict[str, Path | None] = {}
    _collect(module, found)
    return found


def names_in(module: str) -> set[str] | None:
    """Names that a module's source defines or imports at its top level, without running it.

    None where they cannot be told: no source, `from x import *`, a `__getattr__` of the module.
    Raises ModuleNotFoundError if there is no such module, SyntaxError if Python cannot read it.
    """
    source = _file(module)
    if source is None:
        return None
    found = set(_bound(_parsed(source)))
    return None if found & {"*", "__getattr__"} else found


def _bound(block: ast.AST) -> Iterator[str]:
    """Names that statements bind, in the branches of `if`, `try`, `with` and loops as well."""
    for node in ast.iter_child_nodes(block):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            yield from _bound(node)


def is_local(module: str) -> bool:
    """Whether a module has a source file that is neither installed nor of this project."""
    return _local(module) is not None


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
    spec = loaded.__spec__ if loaded is not None else _spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    if not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).resolve()


def _spec(module: str) -> ModuleSpec | None:
    """Where a module would be loaded from.

    `importlib.util.find_spec` runs the packages around a module; what they do, or fail to do, is
    nothing to a digest.
    """
    name, *inner = module.split(".")
    spec = importlib.util.find_spec(name)
    for part in inner:
        name = f"{name}.{part}"
        folders = None if spec is None else spec.submodule_search_locations
        spec = None if folders is None else PathFinder.find_spec(name, list(folders))
    return spec


def _local(name: str) -> str | None:
    """The name, if it is a module whose source is local."""
    try:
        path = _file(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return None if path is None or _installed(path) else name


def _installed(path: Path) -> bool:
    """Whether a source belongs to the standard library, to a package or to this project."""
    known = (*INSTALLED, OURS / "bench")
    return bool(PACKAGES & set(path.parts)) or any(path.is_relative_to(f) for f in known)


def _imports(path: Path, package: str) -> Iterator[str]:
    """Names of modules that a file imports, anywhere in it; attributes may be among them."""
    try:
        tree = _parsed(path)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]).strip(".") if node.level else node.module
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _parsed(path: Path) -> ast.AST:
    """The syntax tree of a file; raises SyntaxError."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:  # of null bytes, depending on the version
        raise SyntaxError(f"{path} is not for this Python ({error})") from error
