"""The samples of a cell: under its one condition, or under many in lock step.

Under many conditions the method runs once for each, as it would in a cell of that condition alone:
on a problem, with noise, and on a ledger of its own.  Nothing in a method can mix conditions, then,
nor do its rows or its samples depend on which others share the cell, but for the rounding of larger
batches.  What the runs share are calls: rows of all conditions go through flow, map, decoder and
reward together (`bench.core.lockstep`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from bench.core.cells import Cell
from bench.core.conditions import spelled
from bench.core.flops import Price
from bench.core.lockstep import Lane, Lockstep
from bench.core.metering import Meter
from bench.core.methods import Method
from bench.core.parts import Cost
from bench.core.problem import Problem
from bench.core.returned import checked_samples
from bench.core.seeding import seed_all
from bench.core.tasks import Task
from bench.core.units import DEFAULT, UNITS, Kind, Role
from bench.core.values import Samples
from bench.core.work import Budget, Work
from bench.plan.binding import declares
from bench.runner.instances import Instances
from bench.runner.problems import make_problem

Scalars = Mapping[str, float]
InBatches = Callable[[Method[Any], Problem, Cell], Samples]
"""All n samples of a problem, so many at a time as the cell says."""

JOINED: tuple[Role, ...] = ("flow", "map", "decoder", "reward")
"""What runs share; closed forms cost nothing, and keep their noise to themselves."""


class LaneMeter(Meter):
    """The ledger of one condition, whose calls are answered together with those of the others.

    It counts as any ledger does: the prices of FLOPs are those of a call of one condition.

    Args:
        lane: that of the run.
        spread: roles that take a condition for every row.
    """

    def __init__(
        self,
        lane: Lane,
        spread: frozenset[Role],
        limit: float | None,
        unit: str,
        deadline: float | None,
    ) -> None:
        super().__init__(limit, unit, deadline, count_flops=True)
        self._lane, self._spread = lane, spread

    def wrap(
        self,
        role: Role,
        fn: Callable[..., Tensor],
        cost: Cost = 1,
        key: tuple[Any, ...] = (),
        event_shape: tuple[int, ...] | None = None,
        trained: Callable[[], Any] = tuple,
    ) -> Callable[..., Tensor]:
        if key and role in JOINED:
            fn = self._lane.joined((role, *key), fn, role in self._spread)
        return super().wrap(role, fn, cost, key, event_shape, trained)

    def price(
        self, key: tuple[Any, ...], fn: Callable[..., Tensor], args: Any, trained: Any = ()
    ) -> Price:
        with self._lane.alone():
            return super().price(key, fn, args, trained)


def roles_of_many(instances: Instances) -> frozenset[Role]:
    """The roles that take a condition for every row; a fitted flow hears what its base does."""
    task: Task[Any] = instances.task
    found: set[Role] = {"reward"}
    if getattr(task.flow, "hears_rows", False):
        found.add("flow")
    if declares(task, "flow_map") and getattr(task.flow_map, "hears_rows", False):
        found.add("map")
    return frozenset(found)


@dataclass
class _Run:
    """The run of one condition: what it was handed, and what it logged."""

    cell: Cell
    problem: Problem
    log: list[tuple[int, Scalars]] = field(default_factory=list)

    def kept(self) -> Samples | None:
        """The last checkpoint; raises where it is no samples."""
        last = next(reversed(self.problem.checkpoints), None)
        owner = f"the checkpoint of {self.cell.method}"
        return last and checked_samples(last, owner, None, self.problem.event_shape)


@dataclass
class Sampling:
    """The samples of a cell, what they cost, and what is left of them if they are stopped.

    sample: the method's samples of one problem.  curve: hears what the method logs; of many
    conditions, the means.
    """

    cell: Cell
    instances: Instances
    budget: Budget | None
    sample: InBatches
    curve: Callable[[int, Scalars], None]
    _runs: list[_Run] = field(default_factory=list)
    _clock: Meter = field(default_factory=Meter)

    def samples(self) -> Samples:
        """All of the cell's; raises what a method raises."""
        if not self.cell.conditions:
            return self._sampled(self.cell, self.instances, partial(Meter, count_flops=True))
        step, spread = Lockstep[Samples](), roles_of_many(self.instances)
        parts: list[Samples] = []
        each, width = self.cell.each, max(1, self.cell.batch // self.cell.n)
        try:
            for start in range(0, len(each), width):
                works = [partial(self._apart, one, spread) for one in each[start : start + width]]
                parts += step.run(works)
        finally:
            self._tell()
        return self._joined(parts)

    def _apart(self, cell: Cell, spread: frozenset[Role], lane: Lane) -> Samples:
        """The samples of one condition, on a ledger of their own."""
        seed_all(cell.id)
        return self._sampled(cell, self.instances.under(cell), partial(LaneMeter, lane, spread))

    def _sampled(self, cell: Cell, instances: Instances, meter: Callable[..., Meter]) -> Samples:
        problem = make_problem(cell, instances, meter(*self._limits(cell)), range(cell.n))
        run = _Run(cell, problem)
        self._runs.append(run)
        problem.budget = self.budget
        many = bool(self.cell.conditions)
        problem.on_log = (lambda k, said: run.log.append((k, said))) if many else self.curve
        return self.sample(instances.method, problem, cell)

    def _limits(self, cell: Cell) -> tuple[float | None, str, float | None]:
        """What a run may spend, the unit of it, and the seconds that it may take.

        Seconds pass for all conditions together, so that those of earlier runs are gone.
        """
        budget, deadline, gone = self.budget, self.cell.seconds, 0.0
        if self.cell.conditions:
            gone = self._clock.elapsed()
            deadline = None if deadline is None else max(0.0, deadline - gone)
        if budget is None:
            return None, DEFAULT, deadline
        if UNITS[budget.unit].timed:
            return budget.per_sample(cell.n) * self.cell.total - gone, budget.unit, deadline
        return budget.per_sample(cell.n) * cell.n, budget.unit, deadline

    def _joined(self, parts: list[Samples]) -> Samples:
        """One after the other; Z is another one under every condition."""
        names = [spelled(one.condition) for one in self.cell.each]
        known = zip(names, (part.log_z for part in parts), strict=True)
        log_z = {f"log_z of {name}": z for name, z in known if z is not None}
        joined = Samples.joined(parts)
        return replace(joined, log_z=None, info={**joined.info, **log_z})

    def _tell(self) -> None:
        """Pass on what the runs logged, entry by entry: the mean over those that have one."""
        for entries in _columns([run.log for run in self._runs]):
            names = dict.fromkeys(name for _, said in entries for name in said)
            values = {name: [said[name] for _, said in entries if name in said] for name in names}
            self.curve(entries[0][0], {k: sum(found) / len(found) for k, found in values.items()})

    def work(self) -> Work:
        """Of all conditions; their seconds passed at the same time."""
        each = [run.problem.meter for run in self._runs]
        if not self.cell.conditions:
            return each[0].work()
        total = sum((meter.work() for meter in each), Work())
        seconds = self._clock.elapsed() - sum(meter.excluded for meter in each)
        return Work(vector=total.vector, flops=total.flops, seconds=seconds)

    def flop_rates(self) -> dict[tuple[Role, Kind], float]:
        """FLOPs per row of every role and kind that was called, under the first condition."""
        return self._runs[0].problem.meter.flop_rates()

    def kept(self) -> Samples | None:
        """The last samples that the method declared to be worth keeping, under every condition."""
        last = [run.kept() for run in self._runs]
        whole = [samples for samples in last if samples is not None]
        if len(whole) < len(self.cell.each):
            return None
        return self._joined(whole) if self.cell.conditions else whole[0]


def _columns(logs: list[list[tuple[int, Scalars]]]) -> list[list[tuple[int, Scalars]]]:
    """The k-th entries of all logs that have one, for every k."""
    longest = max(map(len, logs), default=0)
    return [[log[k] for log in logs if k < len(log)] for k in range(longest)]
