"""A trial, how each of its cells ended, and how it stands as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.core.cells import Planned
from sweeps.space import Values

TrialState = Literal["complete", "pruned", "fail", "running"]
"""In Optuna's words."""


@dataclass(frozen=True)
class Trial:
    """A proposal; `seen` earlier trials had been told when it was made."""

    number: int
    params: Values
    label: str
    seen: int
    attrs: dict[str, Any] = field(default_factory=dict)
    row: Planned | None = None
    refused: str = ""


@dataclass(frozen=True)
class CellEnd:
    """How a cell ended: its status, the objectives, and its cost in the budget's unit."""

    status: str
    reason: str
    values: tuple[float, ...]
    cost: float | None


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial stands; `means[i]` is the first objective over the first i + 1 seeds."""

    state: TrialState
    values: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    reason: str = ""


def mean(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Mean of every column."""
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=False))
