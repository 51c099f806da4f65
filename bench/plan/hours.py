"""Hours of a plan, from FLOPs counted without weights and from rates that a device was measured at.

Nothing is said without rates: a FLOP takes as long as it takes somewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bench.core.cells import Planned
from bench.core.flops import Unbuilt, price_unbuilt
from bench.core.units import Kind, Role
from bench.core.work import PLACE, Work
from bench.plan.binding import Bound
from bench.plan.rates import Flops, Rates

NETWORKS: frozenset[Role] = frozenset({"flow", "map", "decoder", "reward"})
"""Roles that may be networks; oracles are closed forms, and count nothing."""


@dataclass(frozen=True)
class Counted:
    """FLOPs per row, and the roles whose networks nobody could describe."""

    flops: Flops
    unknown: frozenset[Role]

    def total(self, work: Work) -> float:
        """FLOPs of work, as far as they are known."""
        return sum(each * work.vector[PLACE[pair]] for pair, each in self.flops.items())

    def lacks(self, work: Work) -> list[Role]:
        """The roles of this work whose FLOPs are unknown."""
        return sorted(role for role in self.unknown if work.rows(role).total)


def counted(bound: Bound) -> Counted:
    """FLOPs per row of what a task and a reward bring, without what a batch shares.

    A network that cannot be made from its configuration is unknown, as one that nobody describes.
    """
    said, scores = bound.task.unbuilt(), bound.reward.unbuilt(bound.task)
    makers: dict[Role, Sequence[Unbuilt]] = {role: (make,) for role, make in said.items()}
    if scores is not None:
        makers["reward"] = scores
    flops: dict[tuple[Role, Kind], float] = {}
    known = set[Role]()
    for role, own in makers.items():
        with suppress(Exception):  # of an odd configuration: why it does not run, `bench run` says
            prices = [price_unbuilt(make) for make in own]
            flops[role, "forward"] = sum(price.forward.per_row for price in prices)
            flops[role, "backward"] = sum(price.backward.per_row for price in prices)
            flops[role, "jvp"] = 2 * flops[role, "forward"]
            known.add(role)
    return Counted(flops, frozenset(NETWORKS - known))


@dataclass
class Estimate:
    """What is left to compute: FLOPs, and hours by the file of the rates; None where one lacks.

    Both leave out the roles that are `unknown`.
    """

    flops: float = 0.0
    hours: dict[str, float | None] = field(default_factory=dict)
    unknown: set[Role] = field(default_factory=set)

    def add(self, work: Work, counted: Counted, rates: Sequence[Rates], dtype: str) -> None:
        """Count some work in."""
        self.flops += counted.total(work)
        self.unknown |= set(counted.lacks(work))
        for known in rates:
            so_far = self.hours.get(known.file, 0.0)
            took = known.seconds(work, counted.flops, dtype)
            if took is None or so_far is None:
                self.hours[known.file] = None
            else:
                self.hours[known.file] = so_far + took / 3600


def estimated(
    rows: Sequence[Planned],
    counted: Mapping[tuple[str, str], Counted],
    rates: Sequence[Rates],
    fits: set[str],
) -> Estimate:
    """Of cells that are still to be run, and of the fits that they wait for.

    fits: the ids of those that are counted already, to which others are added.
    """
    found = Estimate()
    for row in rows:
        prices = counted[row.task_label, row.reward_label]
        found.add(row.predicted * row.cell.total, prices, rates, row.cell.dtype)
        if row.fit is not None and row.fit.id not in fits:
            fits.add(row.fit.id)
            found.add(row.fit.predicted, prices, rates, row.cell.dtype)
    return found
