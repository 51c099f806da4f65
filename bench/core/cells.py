"""Cells: the unit that is planned, scheduled, cached and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from bench.core.params import UserError, nearest
from bench.core.work import Budget, Work

PRECISIONS = ("float32", "bfloat16", "float16")
"""What networks may be computed in; `bench.core.place` runs them so."""


def known_precision(name: str) -> str:
    """The name; UserError for one that is none of `PRECISIONS`."""
    if name not in PRECISIONS:
        raise UserError(f"unknown dtype '{name}': {nearest(name, PRECISIONS)}")
    return name


@dataclass(frozen=True)
class Cell:
    """Everything that decides the samples, and how to run it.

    `id` hashes the former; batch, time limit, device, resources (`cpu`, `gpu` and `rows` as
    counts, `memory` in bytes) and the `incidental` parameters of the reward are the latter and are
    left out.  A cell of part "fit" adapts the flow; a cell with a `fit` samples from what that cell
    left.  A cell with `conditions` holds n samples under each of them, in their order, and its
    `condition` is None.
    """

    task: str
    task_params: dict[str, Any]
    reward: str
    reward_params: dict[str, Any]
    strength: float
    condition: Any
    method: str
    method_params: dict[str, Any]
    n: int
    seed: int
    threads: int
    versions: dict[str, str]
    weights: dict[str, str]
    dtype: str = "float32"
    batch: int = 1024
    seconds: float | None = None
    part: Literal["sample", "fit"] = "sample"
    fit: str = ""
    incidental: tuple[str, ...] = ()
    device: str = "cpu"
    resources: dict[str, float] = field(default_factory=dict)
    conditions: tuple[Any, ...] = ()

    @property
    def total(self) -> int:
        """Samples under all conditions."""
        return self.n * max(1, len(self.conditions))

    @property
    def each(self) -> tuple[Cell, ...]:
        """Its conditions, a cell each: what makes the same samples apart."""
        return tuple(map(self.under, self.conditions)) or (self,)

    def under(self, *conditions: Any) -> Cell:
        """The cell under one condition, or under many together."""
        if len(conditions) == 1:
            return dataclasses.replace(self, condition=conditions[0], conditions=())
        return dataclasses.replace(self, condition=None, conditions=conditions)

    @cached_property
    def id(self) -> str:
        """Hash of the canonical JSON of what decides the samples, worked out once."""
        decisive = dataclasses.asdict(self)
        for name in ("batch", "seconds", "incidental", "device", "resources"):
            decisive.pop(name)
        for name in self.incidental:
            decisive["reward_params"].pop(name, None)
        for name, plain in (("part", "sample"), ("fit", ""), ("conditions", ())):
            if decisive[name] == plain:
                decisive.pop(name)
        return digest(decisive)

    def to_json(self) -> str:
        """Canonical JSON."""
        return canonical(dataclasses.asdict(self))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; tuples become lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PlannedFit:
    """The fit that a row samples from: its cell, its predicted work, its cost in the budget's
    unit, the limit on it, if there is one, and the parameters that spend it.
    """

    cell: Cell
    predicted: Work
    cost: float
    limit: float | None = None
    matched: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.cell.id


@dataclass(frozen=True)
class About:
    """What the plugins behind a row declare for its readers."""

    method_summary: str = ""
    method_standing: str = "method"
    method_tag: str = ""
    method_caveat: str = ""
    method_push: str = "guidance"
    method_best_of: str = ""
    method_colour: str = ""
    task_summary: str = ""
    task_noun: str = "sample"


@dataclass(frozen=True)
class Planned:
    """One row of a plan: a cell under a budget, or the reason why there is none."""

    cell: Cell
    task_label: str
    reward_label: str
    method_label: str
    budget: Budget | None
    status: str = "pending"
    reason: str = ""
    matched: dict[str, Any] = field(default_factory=dict)
    predicted: Work = field(default_factory=Work)
    use: float = float("nan")
    expected: float = float("nan")
    map_training: float = 0.0
    underused: bool = False
    alternatives: tuple[tuple[dict[str, Any], float], ...] = ()
    fit: PlannedFit | None = None
    about: About = About()
    preset: str = ""
    """What a suite called the method (`dps@tuned`), where that is not its label."""

    @property
    def id(self) -> str:
        return self.cell.id

    @property
    def limit(self) -> Budget | None:
        """What is enforced on sampling: the budget per sample, less its share of the fit."""
        if self.budget is None:
            return None
        spent = 0.0 if self.fit is None else self.fit.cost
        left = self.budget.per_sample(self.cell.n, spent)
        return Budget(self.budget.unit, left)

    @property
    def row(self) -> str:
        """Identity of the row: the cell under this budget."""
        return f"{self.cell.id}@{self.budget or ''}"


def plain_values(params: Any) -> dict[str, Any]:
    """Plain values of a params dataclass, as JSON would give them back."""
    plain: Mapping[str, Any] = json.loads(canonical(dataclasses.asdict(params)))
    return dict(plain)
