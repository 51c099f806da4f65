"""Search spaces: which parameters of a method are tuned, in which range, on which scale.

A space is read off the method's `Params`: every tunable parameter with a declared range or declared
choices.  A `search` mapping on the Params class, and then the user's, narrows it:

    search: ClassVar = {"guidance": {"low": 0.1, "high": 10.0, "log": True},
                        "noise_level": {"when": {"integrator": ["sde"]}}}

The command line writes `guidance=0.1..10:log`, `scale=exact|rescale`, `start=off`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.core.params import Range, UserError, build, nearest, parse_value, range_of
from bench.plan.binding import STRENGTH

Values = dict[str, Any]
Change = Mapping[str, Any] | None
"""Keys low, high, log, choices, when; None takes the parameter out."""

DIGITS = 6
"""Proposals are rounded to the figures that a name such as `dps:guidance=1.23457` can carry."""

NEVER = ("fit_seed",)
"""Seeds are not to be chosen."""


@dataclass(frozen=True)
class Axis:
    """One parameter of a space; `when` names the values of others under which it matters."""

    name: str
    kind: Literal["int", "float", "choice"]
    default: Any
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the parameter matters beside these values of the others."""
        return all(values.get(other) in allowed for other, allowed in self.when)

    @property
    def open(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.choices) > 1 if self.kind == "choice" else self.low < self.high

    def holds(self, value: Any) -> bool:
        """Whether a value lies inside."""
        if self.kind == "choice":
            return value in self.choices
        return bool(self.low <= value <= self.high)

    def rounded(self, value: Any) -> Any:
        """A proposal with as many digits as names carry, inside the range."""
        if self.kind != "float":
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def grid(self, levels: int) -> list[Any]:
        """At most `levels` values, even on the axis's scale."""
        if self.kind == "choice":
            return list(self.choices)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        steps = [low + (high - low) * i / max(1, levels - 1) for i in range(levels)]
        points = [math.exp(s) if self.log else s for s in steps]
        if self.kind == "int":
            return sorted({min(max(round(p), int(self.low)), int(self.high)) for p in points})
        return sorted({self.rounded(p) for p in points})


@dataclass(frozen=True)
class Space:
    """The axes of one method; parents of conditional axes come before them."""

    axes: tuple[Axis, ...]

    @property
    def conditional(self) -> bool:
        return any(axis.when for axis in self.axes)

    def describe(self) -> list[dict[str, Any]]:
        """Plain data, for the record and the hash."""
        return [dataclasses.asdict(axis) for axis in self.axes]

    def restrict(self, params: Mapping[str, Any]) -> Values:
        """The values of the active axes among a method's parameters."""
        return {
            axis.name: axis.rounded(params[axis.name]) for axis in self.axes if axis.active(params)
        }

    def grid_size(self, levels: int) -> int:
        """Points of the full grid."""
        return math.prod(len(axis.grid(levels)) for axis in self.axes)


def parse_change(text: str) -> tuple[str, Change]:
    """`NAME=LOW..HIGH[:log]`, `NAME=a|b`, or `NAME=off`; NAME may be METHOD.PARAMETER."""
    name, equals, rest = text.partition("=")
    if not equals or not name.strip():
        raise UserError(f"'--space {text}' should read NAME=LOW..HIGH[:log], NAME=a|b or NAME=off")
    return name.strip(), read_change(rest.strip(), name.strip())


def read_change(content: Any, name: str) -> Change:
    """A change from its text or from a YAML mapping."""
    if isinstance(content, Mapping):
        unknown = set(content) - {"low", "high", "log", "choices", "when"}
        if unknown:
            raise UserError(f"the space of {name} has no key '{min(unknown)}'")
        ends = {key: _bound(content[key], name) for key in ("low", "high") if key in content}
        return {**content, **ends}
    if content in ("off", False, None):  # YAML reads off as false
        return None
    body, _, scale = str(content).partition(":")
    if ".." not in body:
        choices = parse_value(body)
        return {"choices": choices if isinstance(choices, list) else [choices]}
    low, _, high = body.partition("..")
    if scale not in ("", "log", "linear"):
        raise UserError(f"the scale of {name} is log or linear, not '{scale}'")
    return {"low": _bound(low, name), "high": _bound(high, name), "log": scale == "log"}


def _bound(value: Any, name: str) -> float:
    """An end of a range; raises UserError for what is no finite number."""
    found = parse_value(value.strip()) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise UserError(f"the range of {name} ends at finite numbers, not at '{value}'")
    return float(found)


def changes_for(method: str, wanted: Mapping[str, Any], params: type[Any]) -> dict[str, Change]:
    """The changes that concern one method: its own, and the unprefixed ones that it knows."""
    known = {f.name for f in dataclasses.fields(params)}
    mine: dict[str, Change] = {}
    for full, content in wanted.items():
        owner, dot, name = full.rpartition(".")
        refuse_target(name if dot else full)
        if (not dot and name in known) or owner == method:
            mine[name] = read_change(content, full)
    return mine


def check_known(wanted: Iterable[str], methods: Mapping[str, type[Any]]) -> None:
    """Every change concerns some method; what belongs to the target law is refused."""
    known = {f.name for params in methods.values() for f in dataclasses.fields(params)}
    for full in wanted:
        owner, dot, name = full.rpartition(".")
        refuse_target(name)
        if dot and owner not in methods:
            raise UserError(f"the space names the method '{owner}': {nearest(owner, methods)}")
        if name not in known:
            raise UserError(f"no swept method has a parameter '{name}': {nearest(name, known)}")


def refuse_target(name: str) -> None:
    """The strength of the reward says which law is asked for."""
    if name in (STRENGTH, "lambda"):
        raise UserError(
            f"{name} is part of the target law and is never tuned: tune the method's guidance, or "
            f"ask for another law with -r REWARD:{STRENGTH}=..."
        )


def axes_of(
    label: str,
    params: Any,
    given: Mapping[str, Any],
    changes: Mapping[str, Change],
) -> list[Axis]:
    """Every axis that a method's Params declare and that the user did not fix in the name."""
    declared = getattr(type(params), "search", {})
    axes = []
    for name in (f.name for f in dataclasses.fields(params)):
        asked = name in changes
        if name in given:
            if asked and changes[name] is not None:
                raise UserError(f"{label} fixes {name}, so that it cannot be tuned as well")
            continue
        own = range_of(type(params), name)
        if not own.tunable or name in NEVER:
            if asked and changes[name] is not None:
                raise UserError(f"{name} of {label} cannot be tuned: it describes the problem")
            continue
        layers = [declared.get(name, {}), changes.get(name, {})]
        axis = None if None in layers else _axis(label, params, name, own, layers)
        if axis is not None:
            axes.append(axis)
    return _ordered(label, axes, {f.name for f in dataclasses.fields(params)})


def _axis(
    label: str, params: Any, name: str, own: Range, layers: list[Mapping[str, Any]]
) -> Axis | None:
    """The axis of one parameter, or None where no range is known."""
    choices = own.choices if own.searched else None
    said: Values = {"low": own.chosen_from, "high": own.high, "log": own.log, "choices": choices}
    for layer in layers:
        if "low" in layer or "high" in layer:
            said |= {"choices": None}
        said |= layer
    default = getattr(params, name)
    when = tuple((other, tuple(v)) for other, v in (said.get("when") or {}).items())
    hint = typing.get_type_hints(type(params))[name]
    if hint is bool and not said["choices"]:
        said["choices"] = (False, True)
    if said["choices"]:
        built = (build(type(params), {name: choice}, label) for choice in said["choices"])
        named = tuple(getattr(one, name) for one in built)  # 1 is 1.0 where the field is a float
        return _inside(label, Axis(name, "choice", default, choices=named, when=when))
    if hint not in (int, float) or said["low"] is None or said["high"] is None:
        return None
    for end in (said["low"], said["high"]):
        if hint is int and end != round(end):
            raise UserError(f"the range of {name} of {label} is of whole numbers, not {end:g}")
    low, high = hint(said["low"]), hint(said["high"])
    for bound in (low, high):
        build(type(params), {name: bound}, label)
    if not low < high or (said["log"] and low <= 0):
        raise UserError(f"the range {low:g}..{high:g} of {name} of {label} cannot be searched")
    kind: Literal["int", "float"] = "int" if hint is int else "float"
    return _inside(label, Axis(name, kind, default, low, high, bool(said["log"]), when=when))


def _inside(label: str, axis: Axis) -> Axis:
    if not axis.holds(axis.default):
        raise UserError(
            f"the space of {axis.name} leaves out {axis.default}, the default of {label}: the "
            "default is always tried, so widen the space to hold it"
        )
    return axis


def _ordered(label: str, axes: list[Axis], fields: set[str]) -> list[Axis]:
    """Conditional axes after those that they depend on (one level deep)."""
    for axis, (other, _) in itertools.chain.from_iterable(((a, w) for w in a.when) for a in axes):
        if other not in fields:
            raise UserError(f"{axis.name} of {label} depends on an unknown parameter '{other}'")
    return sorted(axes, key=lambda axis: bool(axis.when))
