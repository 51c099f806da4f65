"""The units in which budgets are stated: what they count, how exact a limit is, how they read.

A unit of rows weighs every row by its role and its kind, so that parameters alone say what a method
spends.  A unit without weights is measured: a pilot says what a row costs in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Role = Literal["flow", "map", "decoder", "reward", "oracle"]
ROLES: tuple[Role, ...] = ("flow", "map", "decoder", "reward", "oracle")

Kind = Literal["forward", "backward", "jvp"]
KINDS: tuple[Kind, ...] = ("forward", "backward", "jvp")

Weights = Mapping[tuple[Role, Kind], float]
"""What one row of each role and kind counts."""


@dataclass(frozen=True)
class Unit:
    """A unit of work.

    tolerance: by how much a budget may be exceeded before a run is stopped, relative.
    weights: of a unit of rows; None for one that is measured, which the field of `Work` of its name
        holds, and which needs a pilot to be matched.
    timed: whether the same work measures now more, now less, so that matches are timed in turns.
    """

    name: str
    summary: str
    tolerance: float
    weights: Weights | None = None
    timed: bool = False

    @property
    def column(self) -> str:
        """The unit in the names of columns and attributes."""
        return self.name.replace("-", "_")

    @property
    def piloted(self) -> bool:
        """Whether a pilot must say what a row costs."""
        return self.weights is None


def _paper(role: Role, kind: Kind) -> float:
    """arXiv 2601.14430, F.3.5; a JVP carries a primal and a tangent, a closed form counts 1."""
    return 0.0 if role == "decoder" else 2.0 if kind == "jvp" else 1.0


def _model(role: Role, kind: Kind) -> float:
    """Forwards of whatever stands for the model."""
    return float(kind == "forward" and role in ("flow", "map", "oracle"))


def _table(weigh: Callable[[Role, Kind], float]) -> Weights:
    return MappingProxyType({(role, kind): weigh(role, kind) for role in ROLES for kind in KINDS})


ROUNDING = 1e-9
"""Rounding of fractional predictions must not stop a run that is exactly on budget."""

UNITS: Mapping[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit(
            "paper-nfe",
            "one forward or one backward row through flow, map or reward counts 1 "
            "(a Jacobian-vector product 2), the decoder is free",
            ROUNDING,
            _table(_paper),
        ),
        Unit(
            "model-nfe",
            "forward rows through flow and map; rewards and backward passes are free",
            ROUNDING,
            _table(_model),
        ),
        Unit("flops", "floating-point operations, calibrated once per callable", 0.01),
        # Seconds are matched by a pilot and vary from run to run; twice the budget is a runaway.
        Unit("seconds", "sampling seconds on the device named below", 1.0, timed=True),
    )
}

DEFAULT = "paper-nfe"
"""The unit of what has no budget."""
