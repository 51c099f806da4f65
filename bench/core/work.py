"""Work: what was computed, in rows, and the budgets that limit it.

A row is one batch element through one callable.  Forward, backward and JVP rows of flow, map,
decoder and reward are counted apart; a guided (CFG) call counts twice; a closed-form oracle call
counts one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.core.params import spelled
from bench.core.units import KINDS, ROLES, UNITS, Kind, Role

PLACE: dict[tuple[Role, Kind], int] = {
    pair: place for place, pair in enumerate((role, kind) for role in ROLES for kind in KINDS)
}
"""Where the rows of a role and a kind stand in the vector of a `Work`."""

NOTHING = (0.0,) * len(PLACE)


@dataclass(frozen=True)
class Rows:
    """Rows through one callable, by kind."""

    forward: float = 0.0
    backward: float = 0.0
    jvp: float = 0.0

    @property
    def total(self) -> float:
        return self.forward + self.backward + self.jvp


_NONE = Rows()


@dataclass(frozen=True, init=False)
class Work:
    """Rows by role and kind, one flat vector; FLOPs, seconds and peak bytes where measured.

    `upper_bound` marks a prediction whose true value depends on the data.
    """

    vector: tuple[float, ...]
    flops: float
    seconds: float
    peak_bytes: int
    upper_bound: bool

    def __init__(
        self,
        flow: Rows = _NONE,
        map: Rows = _NONE,
        decoder: Rows = _NONE,
        reward: Rows = _NONE,
        oracle: Rows = _NONE,
        flops: float = 0.0,
        seconds: float = 0.0,
        peak_bytes: int = 0,
        upper_bound: bool = False,
        vector: tuple[float, ...] | None = None,
    ) -> None:
        if vector is None:
            roles = (flow, map, decoder, reward, oracle)
            vector = tuple(v for r in roles for v in (r.forward, r.backward, r.jvp))
        # A frozen dataclass is filled once, past its own guard.
        self.__dict__.update(
            vector=vector,
            flops=flops,
            seconds=seconds,
            peak_bytes=peak_bytes,
            upper_bound=upper_bound,
        )

    def __add__(self, other: Work) -> Work:
        return Work(
            vector=tuple([a + b for a, b in zip(self.vector, other.vector, strict=True)]),
            flops=self.flops + other.flops,
            seconds=self.seconds + other.seconds,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            upper_bound=self.upper_bound or other.upper_bound,
        )

    def __mul__(self, factor: float) -> Work:
        return Work(
            vector=tuple([value * factor for value in self.vector]),
            flops=self.flops * factor,
            seconds=self.seconds * factor,
            peak_bytes=self.peak_bytes,
            upper_bound=self.upper_bound,
        )

    __rmul__ = __mul__

    def rows(self, role: Role) -> Rows:
        """The rows of one role."""
        first = PLACE[role, KINDS[0]]
        return Rows(*self.vector[first : first + len(KINDS)])

    @property
    def flow(self) -> Rows:
        """Rows of the flow."""
        return self.rows("flow")

    @property
    def map(self) -> Rows:
        """Rows of the flow map."""
        return self.rows("map")

    @property
    def decoder(self) -> Rows:
        """Rows of the decoder."""
        return self.rows("decoder")

    @property
    def reward(self) -> Rows:
        """Rows of the reward."""
        return self.rows("reward")

    @property
    def oracle(self) -> Rows:
        """Rows of closed forms."""
        return self.rows("oracle")

    def cost(self, unit: str) -> float:
        """This work in a budget's unit: weighted rows, or what was measured."""
        known = UNITS[unit]
        if known.weights is None:
            measured: float = getattr(self, known.name)
            return measured
        return self.priced(known.weights)

    def priced(self, price: Mapping[tuple[Role, Kind], float]) -> float:
        """Sum of rows times a price per row of each role and kind."""
        total = 0.0
        for pair, each in price.items():
            total += each * self.vector[PLACE[pair]]
        return total

    def same_rows(self, other: Work, tolerance: float = 1e-9) -> bool:
        """Whether both hold the same rows of every role and kind."""
        pairs = zip(self.vector, other.vector, strict=True)
        return all(abs(a - b) <= tolerance * max(1.0, abs(a)) for a, b in pairs)

    def flat(self) -> dict[str, float]:
        """Columns for a table: `flow_forward`, ..., `flops`, `seconds`, `peak_bytes`."""
        rows = {f"{role}_{kind}": self.vector[place] for (role, kind), place in PLACE.items()}
        return rows | {
            "flops": self.flops,
            "seconds": self.seconds,
            "peak_bytes": float(self.peak_bytes),
        }


def rows_through(role: Role, kind: Kind, rows: float) -> Work:
    """`rows` rows of one role and one kind."""
    place = PLACE[role, kind]
    return Work(vector=(*NOTHING[:place], rows, *NOTHING[place + 1 :]))


def forward(role: Role, rows: float = 1.0) -> Work:
    """`rows` forward rows of one role."""
    return rows_through(role, "forward", rows)


def backward(role: Role, rows: float = 1.0) -> Work:
    """`rows` backward rows of one role."""
    return rows_through(role, "backward", rows)


@dataclass(frozen=True)
class Budget:
    """A limit on work, in a named unit, per returned sample or for the whole run.

    `fit_budget` limits the whole fit of a fine-tuning method, in the same unit.  With `n_served`
    the fit is amortised: every served sample carries its share of it, and sampling gets what is
    left of the amount, `per_sample(n, fit)`.
    """

    unit: str
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
        given = ",".join(f"{key}={spelled(v)}" for key, v in extra.items() if v is not None)
        run = "/run" if self.per == "run" else ""
        return f"{self.unit}={spelled(self.amount)}{run}" + (f":{given}" if given else "")
