"""Parameters: frozen dataclasses with defaults, ranges and one grammar for names.

    @dataclass(frozen=True)
    class Params:
        steps: int = param(20, low=1, high=1000, log=True, help="time steps")

`parse_name("mfm-g:draws=4,scale=rescale")` gives ("mfm-g", {"draws": 4, "scale": "rescale"}); the
same grammar serves the command line, YAML and presets.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import yaml

from bench.core.documents import not_finite, read_yaml

P = TypeVar("P")


class UserError(Exception):
    """Bad input: one clear sentence with the fix.  The command line prints it and exits with 2."""


@dataclass(frozen=True)
class Range:
    """What a parameter may be: bounds or choices, and how to search it.

    searched: whether a sweep goes through the choices without being told to.
    decides: whether samples depend on it; an address or a timeout is no part of the cell id.
    least: the least that matching and sweeps choose of themselves, where a user may give less.
    """

    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    log: bool = False
    tunable: bool = True
    help: str = ""
    searched: bool = True
    decides: bool = True
    least: float | None = None

    @property
    def chosen_from(self) -> float | None:
        """Where the values begin that are chosen rather than given."""
        return self.low if self.least is None else self.least


def param(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    log: bool = False,
    tunable: bool = True,
    help: str = "",
    searched: bool = True,
    decides: bool = True,
    least: float | None = None,
) -> Any:
    """A dataclass field with a default, a declared range and a help text."""
    declared = Range(low, high, choices, log, tunable, help, searched, decides, least)
    return dataclasses.field(default=default, metadata={"range": declared})


@dataclass(frozen=True)
class NoParams:
    """For plugins without parameters."""


def range_of(cls: type[Any], name: str) -> Range:
    """The declared range of a parameter."""
    declared = {f.name: f.metadata.get("range", Range()) for f in dataclasses.fields(cls)}
    found: Range = declared[name]
    return found


def incidental(cls: type[Any]) -> tuple[str, ...]:
    """The parameters on which no sample depends."""
    return tuple(f.name for f in dataclasses.fields(cls) if not range_of(cls, f.name).decides)


def nearest(name: str, known: Iterable[str]) -> str:
    """', did you mean X?' or a list of what is known."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=5, cutoff=0.5)
    if not close:
        return f"known: {', '.join(options) or 'none'}"

    def likeness(option: str) -> tuple[float, bool]:
        # People swap letters more often than they miss the first one.
        return difflib.SequenceMatcher(None, name, option).ratio(), option[:1] == name[:1]

    return f"did you mean '{max(close, key=likeness)}'?"


def build(cls: type[P], values: Mapping[str, Any], owner: str) -> P:
    """An instance of the params class from plain values, or a UserError that says what is wrong."""
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise UserError(f"{owner} has no parameter '{name}': {nearest(name, known)}")
    hints = typing.get_type_hints(cls)
    checked = {
        name: _coerce(value, hints[name], f"{owner}: {name}") for name, value in values.items()
    }
    for name, value in checked.items():
        _check_range(value, range_of(cls, name), f"{owner}: {name}")
    try:
        return cls(**checked)
    except ValueError as error:
        raise UserError(f"{owner}: {error}") from error


def _coerce(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type; an int serves as a float, a list as a tuple."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        hint = next(a for a in args if a is not type(None))
        return _coerce(value, hint, where)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{where} must be one of {', '.join(map(str, args))}, not '{value}'")
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_coerce(item, args[0], where) for item in items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and not_finite(value) is not None:
        raise UserError(f"{where} must be a finite number, not {value}")
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e3 is 1000
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise UserError(f"{where} must be of type {hint.__name__}, not '{value}'")
    return value


def _check_range(value: Any, allowed: Range, where: str) -> None:
    if value is None:
        return
    if allowed.choices is not None and value not in allowed.choices:
        choices = ", ".join(map(str, allowed.choices))
        raise UserError(f"{where} must be one of {choices}, not '{value}'")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if allowed.low is not None and value < allowed.low:
            raise UserError(f"{where} must be at least {allowed.low:g}, not {value:g}")
        if allowed.high is not None and value > allowed.high:
            raise UserError(f"{where} must be at most {allowed.high:g}, not {value:g}")


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """Split `name:key=value,key=value`; lists are written `a|b|c`.

    A name may say where its class is, `module:Class` or `file.py:Class`: it then holds a colon.
    """
    name, rest = _split(text)
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise UserError(f"'{part}' in '{text}' should read key=value")
        values[key.strip()] = parse_value(value.strip())
    if not name.strip():
        raise UserError(f"'{text}' has no name; write name or name:key=value")
    return name.strip(), values


def _split(text: str) -> tuple[str, str]:
    """The name and its parameters; what stands between two colons and is a word is of the name."""
    name, _, rest = text.partition(":")
    word, _, after = rest.partition(":")
    if name.strip() and word.partition("@")[0].isidentifier():
        return f"{name}:{word}", after
    return name, rest


def parse_value(text: str) -> Any:
    """A YAML scalar, or a list written a|b|c."""
    if "|" in text:
        return [parse_value(item) for item in text.split("|")]
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"cannot read the value '{text}'") from error
    if not_finite(value) is not None:
        raise UserError(f"'{text}' is not a finite number")
    return value


def format_name(name: str, values: Mapping[str, Any]) -> str:
    """The inverse of `parse_name`, with keys in the given order."""
    parts = [f"{key}={_format_value(value)}" for key, value in values.items()]
    return f"{name}:{','.join(parts)}" if parts else name


def _format_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "|".join(map(_format_value, value))
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    return spelled(value) if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    """A text as it is where that reads as itself, in quotation marks where it reads as a number."""
    try:
        plain = "|" in text or parse_value(text) == text
    except UserError:
        plain = False
    return text if plain else "'" + text.replace("'", "''") + "'"


def spelled(value: float) -> str:
    """The shortest text that is this number: unlike numbers never share a name."""
    short = f"{value:g}"
    return short if float(short) == value or value != value else repr(value)


def respelled(text: str) -> str:
    """A name with its numbers in the one spelling that tables and identities use.

    `dps:guidance=1e-2` and `dps:guidance=.01` are both `dps:guidance=0.01`.
    """
    read = parse_name(text)
    out = format_name(*read)
    return out if parse_name(out) == read else text


def changed(params: Any) -> dict[str, Any]:
    """The values that differ from their defaults, for short names in tables."""
    return {
        f.name: getattr(params, f.name)
        for f in dataclasses.fields(params)
        if getattr(params, f.name) != f.default
    }
