"""Work: what was computed, in rows, and the units in which budgets are stated.

A row is one batch element through one callable.  Forward, backward and JVP rows of flow, map,
decoder and reward are counted apart; a guided (CFG) call counts twice; a closed-form oracle call
counts one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Role = Literal["flow", "map", "decoder", "reward", "oracle"]
ROLES: tuple[Role, ...] = ("flow", "map", "decoder", "reward", "oracle")

Unit = Literal["paper-nfe", "model-nfe", "flops", "seconds"]
UNITS: tuple[Unit, ...] = ("paper-nfe", "model-nfe", "flops", "seconds")


Kind = Literal["forward", "backward", "jvp"]
KINDS: tuple[Kind, ...] = ("forward", "backward", "jvp")


def row_weight(unit: Unit, role: Role, kind: Kind) -> float:
    """What one row counts in a unit of rows.

    paper-nfe: a forward 1, a backward 1, a JVP 2 (it carries a primal and a tangent), for networks
    and rewards alike, the decoder nothing (arXiv 2601.14430, F.3.5); a closed-form oracle call 1.
    model-nfe: forwards of flow, map and oracle.
    """
    if unit == "paper-nfe":
        return 0.0 if role == "decoder" else 2.0 if kind == "jvp" else 1.0
    return float(kind == "forward" and role in ("flow", "map", "oracle"))


@dataclass(frozen=True)
class Rows:
    """Rows through one callable, by kind."""

    forward: float = 0.0
    backward: float = 0.0
    jvp: float = 0.0

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            self.forward + other.forward, self.backward + other.backward, self.jvp + other.jvp
        )

    def __mul__(self, factor: float) -> Rows:
        return Rows(self.forward * factor, self.backward * factor, self.jvp * factor)

    __rmul__ = __mul__

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.jvp


@dataclass(frozen=True)
class Work:
    """Rows by role; FLOPs, seconds and peak bytes where they were measured.

    `upper_bound` marks a prediction whose true value depends on the data.
    """

    flow: Rows = field(default_factory=Rows)
    map: Rows = field(default_factory=Rows)
    decoder: Rows = field(default_factory=Rows)
    reward: Rows = field(default_factory=Rows)
    oracle: Rows = field(default_factory=Rows)
    flops: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    upper_bound: bool = False

    def __add__(self, other: Work) -> Work:
        merged: dict[str, Any] = {role: self.rows(role) + other.rows(role) for role in ROLES}
        return Work(
            **merged,
            flops=self.flops + other.flops,
            seconds=self.seconds + other.seconds,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            upper_bound=self.upper_bound or other.upper_bound,
        )

    def __mul__(self, factor: float) -> Work:
        scaled: dict[str, Any] = {role: self.rows(role) * factor for role in ROLES}
        return replace(self, **scaled, flops=self.flops * factor, seconds=self.seconds * factor)

    __rmul__ = __mul__

    def rows(self, role: Role) -> Rows:
        """The rows of one role."""
        rows: Rows = getattr(self, role)
        return rows

    def cost(self, unit: Unit) -> float:
        """This work in a budget's unit; rows are weighted by `row_weight`."""
        if unit in ("flops", "seconds"):
            return self.flops if unit == "flops" else self.seconds
        weights = {(role, kind): row_weight(unit, role, kind) for role in ROLES for kind in KINDS}
        return self.priced(weights)

    def priced(self, price: Mapping[tuple[Role, Kind], float]) -> float:
        """Sum of rows times a price per row of each role and kind."""
        total = 0.0
        for (role, kind), each in price.items():
            total += each * float(getattr(self.rows(role), kind))
        return total

    def same_rows(self, other: Work, tolerance: float = 1e-9) -> bool:
        """Whether both hold the same rows of every role and kind."""
        pairs = (
            (getattr(self.rows(role), kind), getattr(other.rows(role), kind))
            for role in ROLES
            for kind in KINDS
        )
        return all(abs(a - b) <= tolerance * max(1.0, abs(a)) for a, b in pairs)

    def flat(self) -> dict[str, float]:
        """Columns for a table: `flow_forward`, ..., `flops`, `seconds`, `peak_bytes`."""
        out: dict[str, float] = {}
        for role in ROLES:
            out |= {f"{role}_{kind}": value for kind, value in asdict(self.rows(role)).items()}
        return out | {
            "flops": self.flops,
            "seconds": self.seconds,
            "peak_bytes": float(self.peak_bytes),
        }


def forward(role: Role, rows: float = 1.0) -> Work:
    """`rows` forward rows of one role."""
    return Work(**{role: Rows(forward=rows)})  # type: ignore[arg-type]


def backward(role: Role, rows: float = 1.0) -> Work:
    """`rows` backward rows of one role."""
    return Work(**{role: Rows(backward=rows)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Budget:
    """A limit on work, in a named unit, per returned sample or for the whole run.

    `fit_budget` limits the whole fit of a fine-tuning method, in the same unit.  With `n_served`
    the fit is amortised: every served sample carries its share of it, and sampling gets what is
    left of the amount, `per_sample(n, fit)`.
    """

    unit: Unit
    amount: float
    per: Literal["sample", "run"] = "sample"
    fit_budget: float | None = None
    n_served: int | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unknown budget unit '{self.unit}'; one of {', '.join(UNITS)}")
        for value in (self.amount, self.fit_budget, self.n_served):
            if value is not None and not value > 0:
                raise ValueError(f"a budget must be positive, not {value:g}")

    def per_sample(self, n: int, fit: float = 0.0) -> float:
        """The limit on one of n samples, after its share of a fit that cost `fit`."""
        amount = self.amount if self.per == "sample" else self.amount / n
        return amount - (fit / self.n_served if self.n_served else 0.0)

    def __str__(self) -> str:
        extra = {"fit": self.fit_budget, "served": self.n_served}
        given = ",".join(f"{key}={value:g}" for key, value in extra.items() if value is not None)
        run = "/run" if self.per == "run" else ""
        return f"{self.unit}={self.amount:g}{run}" + (f":{given}" if given else "")
