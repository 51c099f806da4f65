"""What an object is, as a digest of all that decides its answers.

A result that is stored under it is found again by the same object, in another session too, and is
made again by one that answers differently.  What counts: values, tensors to the last bit, the
compiled code of functions with their closures, defaults and the globals that they read, classes
with their bases and attributes, networks with weights and structure.  So it is in a notebook and in
the modules beside it; of what is installed the name counts.  Where an object was made, and in which
order, does not.

What cannot be told is refused (`NoIdentity`): random generators, open files, sockets, locks.  An
object may instead say what it is, in an attribute `identity`.
"""

from __future__ import annotations

import builtins
import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.local_source import OURS, digest_of, is_local
from bench.core.params import UserError

DIGITS = 16
"""Of an identity in versions."""


class NoIdentity(UserError):
    """Nobody can tell whether an object has changed; the message says which part of it, and why."""


def identity_of(thing: object, called: str) -> str:
    """The digest of an object; `called` names it in the error.

    Raises NoIdentity.
    """
    return _Reader(called).of(thing).hex()[:DIGITS]


PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, type(...), range, slice),
    *(torch.dtype, torch.device, np.generic, np.dtype, PurePath),
)
"""Values that their text says."""

STATEFUL = (torch.Generator, np.random.Generator, np.random.RandomState)
"""Objects whose answers depend on what was asked before."""

OWN_PACKAGES = frozenset({"bench", "methods", "rewards", "sweeps", "reports"})

UNSAID = frozenset(
    {
        *("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__match_args__"),
        *("__firstlineno__", "__static_attributes__", "__orig_bases__", "__parameters__"),
        *("__abstractmethods__", "_abc_impl", "__dataclass_params__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    }
)
"""Attributes of a class that decide no answer, or that the others decide."""

Parts = Iterable[object]


@dataclasses.dataclass(frozen=True)
class Named:
    """A part with a name, for the error that it may cause."""

    name: str
    value: object


class _Reader:
    """Reads an object part by part; parts that are met twice are read once."""

    def __init__(self, called: str) -> None:
        self.trail = [called]
        self.done: dict[int, bytes] = {}
        self.open: dict[int, int] = {}
        self.kept: list[object] = []

    def of(self, value: object) -> bytes:
        """SHA-256 of a value."""
        if isinstance(value, Named):
            self.trail.append(value.name)
            found = self.of(value.value)
            self.trail.pop()
            return hashlib.sha256(value.name.encode() + b"\0" + found).digest()
        if isinstance(value, PLAIN) and not isinstance(value, enum.Enum):
            return hashlib.sha256(f"{type(value).__name__} {value!r}".encode()).digest()
        key = id(value)
        if key in self.open:  # it holds itself
            return b"above %d" % (len(self.open) - self.open[key])
        if key not in self.done:
            self.open[key] = len(self.open)
            self.done[key] = self._read(value)
            self.kept.append(value)  # so that no other object gets its id
            del self.open[key]
        return self.done[key]

    def _read(self, value: object) -> bytes:
        total = hashlib.sha256()
        for part in self._parts(value):
            said = part if isinstance(part, bytes) else self.of(part)
            total.update(len(said).to_bytes(8, "big") + said)
        return total.digest()

    def _parts(self, value: object) -> Parts:
        said = getattr(value, "identity", None)
        if isinstance(said, str):
            return [b"says", type(value).__qualname__.encode(), said.encode()]
        if isinstance(value, STATEFUL):
            raise self._refused(value, "whose answers depend on what was asked before")
        read = next((read for kind, read in KINDS if isinstance(value, kind)), None)
        if read is not None:
            return read(value)
        if isinstance(value, set | frozenset):
            return [b"set", *sorted(self.of(item) for item in value)]
        return self._object(value)

    def _object(self, value: object) -> Parts:
        """Anything else: its class and its attributes, or what it would be pickled as."""
        cls = type(value)
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:
            raise self._refused(value, "which says nothing of what it holds") from error
        if isinstance(made, str):  # pickled by its name alone
            inner = getattr(value, "__wrapped__", None)
            source = _source(getattr(value, "__module__", None))
            if inner is None and source is None:
                raise self._refused(value, "which says nothing of what it holds")
            return [b"named", cls, made, inner, source]
        if not _pickles_itself(cls) and (hasattr(value, "__dict__") or _slots(cls)):
            return [b"object", cls, *_attributes(value)]
        return [b"made", *(list(p) if isinstance(p, Iterator) else p for p in made)]

    def _refused(self, value: object, why: str) -> NoIdentity:
        where = f"{self.trail[0]} ({', '.join(self.trail[1:])})" if self.trail[1:] else ""
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        return NoIdentity(
            f"nobody can tell when {where or self.trail[0]} changes: it holds a {kind}, {why}; "
            "give it an attribute `identity`, a text that you change whenever it answers otherwise"
        )


# -- kinds of objects -----------------------------------------------------------------------------


def _tensor(value: Tensor) -> Parts:
    if value.layout != torch.strided or value.is_meta:
        value = value.to_dense()
    dense = value.detach().cpu().contiguous().reshape(-1)
    data = dense.view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return [b"tensor", str(value.dtype), tuple(value.shape), data]


def _array(value: np.ndarray[Any, Any]) -> Parts:
    data = list(value.flat) if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
    return [b"array", str(value.dtype), tuple(value.shape), data]


def _mapping(value: Mapping[Any, Any]) -> Parts:
    yield b"mapping"
    for key, item in value.items():
        yield key
        yield Named(str(key), item)


def _network(value: nn.Module) -> Parts:
    """Its class and attributes, weights among them; of hooks only the functions."""
    yield b"network"
    yield type(value)
    for name, item in sorted(vars(value).items()):
        if name.endswith("hooks"):
            yield Named(name, list(item.values()) if isinstance(item, Mapping) else item)
        elif (
            not name.endswith(("_with_kwargs", "_always_called")) and name != "_compiled_call_impl"
        ):
            yield Named(name, item)


def _function(value: types.FunctionType) -> Parts:
    """Of an installed function the name; else its code; with either, all values that it holds."""
    source = _source(value.__module__)
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
    closure = [Named(name, _content(cell)) for name, cell in cells]
    held = [*closure, value.__defaults__, value.__kwdefaults__, vars(value)]
    if source is not None:
        return [b"function", source, value.__qualname__, *held]
    return [b"function", value.__code__, *held, *_read(value.__code__, value.__globals__)]


def _read(code: types.CodeType, known: Mapping[str, Any]) -> Iterator[object]:
    """Globals that a function reads; of a local module the attributes that its code names."""
    names = set(_names(code))
    for name in dict.fromkeys(_global_names(code)):
        value = known.get(name, _ABSENT)
        if isinstance(value, types.ModuleType):
            yield from _of_module(value, names)
        elif value is not _ABSENT:
            yield Named(name, value)
    for name in dict.fromkeys(_imported(code)):
        loaded = sys.modules.get(name)
        yield from [_module(name)] if loaded is None else _of_module(loaded, names)


def _of_module(module: types.ModuleType, names: set[str]) -> Iterator[object]:
    """What a function that mentions some names may read of a module."""
    if _source(module.__name__) is not None:
        yield _module(module.__name__)
        return
    for key in sorted(names & vars(module).keys()):
        yield Named(f"{module.__name__}.{key}", vars(module)[key])


_ABSENT = object()


def _module(name: str) -> bytes:
    """Of a local module all of its source, of an installed one its name."""
    local = not _is_ours(name) and is_local(name)
    return f"module {name} {digest_of(name) if local else ''}".encode()


def _code(value: types.CodeType) -> Parts:
    """Instructions, names and constants; neither lines nor files."""
    numbers = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
    names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
    return [b"code", value.co_code, *numbers, *names, value.co_exceptiontable, *value.co_consts]


def _class(value: type) -> Parts:
    """Of an installed class the name and its declared version; else bases and attributes."""
    source = _source(value.__module__)
    if source is not None:
        declared = getattr(value, "version", "")
        said = declared if isinstance(declared, str) else ""
        return [b"class", source, value.__qualname__, said]
    own = ((name, item) for name, item in vars(value).items() if name not in UNSAID)
    items = [Named(name, item) for name, item in sorted(own)]
    return [b"class", value.__name__, list(value.__bases__), *items]


def _source(module: str | None) -> str | None:
    """What stands for the code of an installed module; None where the code itself counts.

    That is in a notebook and in the modules beside it.  Their files may have been edited since they
    were imported: what runs is what was loaded.
    """
    loaded = sys.modules.get(module or "")
    if module is None or module == "__main__" or loaded is None:
        return None
    known = module in sys.builtin_module_names or _is_ours(module) or not is_local(module)
    return f"installed {module}" if known and _has_origin(loaded) else None


def _is_ours(module: str) -> bool:
    """Whether a module came with us, also from a checkout."""
    package = module.partition(".")[0]
    file = getattr(sys.modules.get(package), "__file__", None)
    return package in OWN_PACKAGES and bool(file) and str(file).startswith(str(OURS))


def _has_origin(module: types.ModuleType) -> bool:
    """Whether a module was imported, rather than made up by an interactive session."""
    return module.__spec__ is not None or bool(getattr(module, "__file__", None))


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is not bound yet
        return "unbound"


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Names of globals that a function reads, those of its inner functions too."""
    steps = (step for inner in _codes(code) for step in dis.get_instructions(inner))
    for step in steps:
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and not hasattr(builtins, str(step.argval)):
            yield str(step.argval)


def _imported(code: types.CodeType) -> Iterator[str]:
    """Modules that a function imports itself."""
    steps = (step for inner in _codes(code) for step in dis.get_instructions(inner))
    yield from (str(step.argval) for step in steps if step.opname == "IMPORT_NAME")


def _names(code: types.CodeType) -> Iterator[str]:
    """Every name that a function's code mentions, attributes among them."""
    yield from (name for inner in _codes(code) for name in inner.co_names)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of its inner functions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _attributes(value: object) -> Iterator[Named]:
    """Attributes by name, without what a cached property keeps: it follows from the others."""
    cls = type(value)
    own = getattr(value, "__dict__", {})
    slots = ((name, getattr(value, name)) for name in _slots(cls) if hasattr(value, name))
    for name, item in sorted({**own, **dict(slots)}.items()):
        if not isinstance(inspect.getattr_static(cls, name, None), functools.cached_property):
            yield Named(name, item)


def _slots(cls: type) -> list[str]:
    found: list[str] = []
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _pickles_itself(cls: type) -> bool:
    """Whether a class says what it holds, for pickling."""
    return any(
        getattr(cls, name, None) is not getattr(object, name, None)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )


KINDS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Parts]], ...] = (
    (enum.Enum, lambda v: [b"enum", type(v), v.name]),
    (Tensor, _tensor),
    (np.ndarray, _array),
    (nn.Module, _network),
    (type, _class),
    (types.FunctionType, _function),
    (types.CodeType, _code),
    (types.MethodType, lambda v: [b"method", v.__func__, v.__self__]),
    ((types.BuiltinFunctionType, np.ufunc), lambda v: [b"builtin", *_builtin(v)]),
    (types.ModuleType, lambda v: [_module(v.__name__)]),
    (functools.partial, lambda v: [b"partial", v.func, list(v.args), v.keywords]),
    (property, lambda v: [b"property", v.fget, v.fset, v.fdel]),
    ((staticmethod, classmethod), lambda v: [type(v).__name__.encode(), v.__func__]),
    (functools.cached_property, lambda v: [b"cached", v.func]),
    (dataclasses.Field, lambda v: [b"field", *_field(v)]),
    (Mapping, _mapping),
    ((list, tuple), lambda v: [type(v).__name__.encode(), *v]),
)
"""How the parts of an object are found; the first kind that fits decides."""


def _builtin(value: Any) -> Parts:
    """A function of C: its name, and the object that it is bound to, if that is a value."""
    owner = getattr(value, "__self__", None)
    bound = owner is not None and not isinstance(owner, type | types.ModuleType)
    holder = getattr(owner, "__name__", "") if not bound else ""
    return [
        str(getattr(value, "__module__", "")),
        str(holder),
        value.__name__,
        owner if bound else "",
    ]


def _field(value: dataclasses.Field[Any]) -> Parts:
    return [value.name, str(value.type), value.default, value.default_factory, value.metadata]
