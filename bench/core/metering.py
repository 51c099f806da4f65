"""The meter: every callable that a method sees counts its rows, and stops at the budget.

Forward rows are counted on the call; backward rows by an identity autograd function on the
output, so that whatever part of a graph is differentiated is charged when it happens.  What would
pass the counter by is refused, see `bench.core.refusals`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.core.accelerator import settle
from bench.core.flops import Affine, Price, price
from bench.core.parts import Cost, parts_of
from bench.core.refusals import (
    Unmeterable,
    refuse_other_gradients,
    refuse_shape,
    refuse_transforms,
    refuse_uncountable,
)
from bench.core.units import DEFAULT, UNITS, Kind, Role
from bench.core.work import PLACE, Work


class OverBudget(Exception):
    """A call would have spent more than the budget allows."""


class TimeIsUp(Exception):
    """The cell's time limit has passed."""


class _Due(NamedTuple):
    """Network rows of a call, and its FLOPs forward and backward."""

    rows: int
    forward: float
    backward: float


@dataclass(frozen=True)
class Spent:
    """What a ledger had counted when it was asked: rows and FLOPs of a role and a kind, seconds."""

    rows: Mapping[tuple[Role, Kind], float]
    flops: Mapping[tuple[Role, Kind], float]
    seconds: float

    def since(self, before: Spent) -> Spent:
        """What came on top of an earlier state of the same ledger."""
        rows = {pair: n - before.rows.get(pair, 0.0) for pair, n in self.rows.items()}
        flops = {pair: v - before.flops.get(pair, 0.0) for pair, v in self.flops.items()}
        return Spent(rows, flops, self.seconds - before.seconds)


class Meter:
    """The ledger of one sampling or one fit.

    Args:
        limit: the largest total cost, in `unit`, or None.  Seconds are enforced between calls.
        unit: the unit of the limit.
        deadline: seconds from now after which every call raises TimeIsUp.
        count_flops: price the FLOPs of calls that were wrapped with a key.
    """

    def __init__(
        self,
        limit: float | None = None,
        unit: str = DEFAULT,
        deadline: float | None = None,
        count_flops: bool = False,
    ) -> None:
        self.limit, self.unit, self.deadline = limit, unit, deadline
        self.count_flops = count_flops
        self._rows: Counter[tuple[Role, Kind]] = Counter()
        self._flops: dict[tuple[Role, Kind], float] = {}
        self._spent = self._excluded = 0.0
        self._continues = False
        self._lock = threading.Lock()
        settle()  # what was launched before is not this ledger's
        self._started = time.perf_counter()

    def __copy__(self) -> Meter:
        """A copied callable still charges the same ledger."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise Unmeterable("a metered callable cannot be pickled; save its state_dict() instead")

    def charge(self, role: Role, kind: Kind, rows: int, flops: float = 0.0) -> None:
        """Count `rows`; raises OverBudget before anything is computed beyond the limit."""
        if not (rows >= 0 and flops >= 0):
            raise Unmeterable(f"work is never negative, but {rows} rows were charged")
        with self._lock:
            self._charge(role, kind, rows, flops)

    def _charge(self, role: Role, kind: Kind, rows: int, flops: float) -> None:
        if self.deadline is not None and self.elapsed() > self.deadline:
            raise TimeIsUp(f"stopped after {self.deadline:g} s")
        if self.limit is not None:
            self._check(role, kind, rows, flops)
        self._rows[role, kind] += rows
        if flops:
            self._flops[role, kind] = self._flops.get((role, kind), 0.0) + flops

    def _check(self, role: Role, kind: Kind, rows: int, flops: float) -> None:
        assert self.limit is not None
        unit = UNITS[self.unit]
        if unit.weights is not None:
            spent, more = self._spent, unit.weights[role, kind] * rows
        else:
            spent, more = self._measured(flops)
        if spent + more > self.limit * (1 + unit.tolerance):
            raise OverBudget(f"{role} {kind} of {rows} rows exceeds {self.limit:g} {self.unit}")
        self._spent += more

    def _measured(self, flops: float) -> tuple[float, float]:
        """What was spent of a measured unit, and what a call of `flops` adds to it."""
        spent = {"seconds": (self.elapsed(), 0.0), "flops": (sum(self._flops.values()), flops)}
        return spent[self.unit]

    def elapsed(self) -> float:
        """Seconds since the meter started, without the time spent on calibration.

        Between calls this is the time of launches on an accelerator; `work` waits for their end.
        """
        return time.perf_counter() - self._started - self._excluded

    @property
    def excluded(self) -> float:
        """Seconds that are no part of `elapsed`: of calibration, and of attempts that failed."""
        return self._excluded

    def work(self) -> Work:
        """What was counted so far; waits for what is still running on a device."""
        settle()
        rows = tuple(self._rows[pair] for pair in PLACE)
        return Work(vector=rows, flops=sum(self._flops.values()), seconds=self.elapsed())

    def spent(self) -> Spent:
        """The state of the ledger; waits for what is still running on a device."""
        settle()
        return Spent(dict(self._rows), dict(self._flops), self.elapsed())

    def take_over(self, spent: Spent) -> None:
        """Count work that an earlier ledger of the same sampling has seen, as if done now.

        Raises OverBudget and TimeIsUp where doing it now would have.
        """
        self._excluded -= spent.seconds
        for (role, kind), rows in spent.rows.items():
            self.charge(role, kind, round(rows), spent.flops.get((role, kind), 0.0))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The seconds inside belong to no method: what was made is written down, for example."""
        settle()
        started = time.perf_counter()
        try:
            yield
        finally:
            self._excluded += time.perf_counter() - started

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is charged inside counts unless memory runs out; then nothing of it was spent.

        The seconds of a failed attempt stand apart: they are no part of `elapsed`.
        """
        rows, flops, spent = self._rows.copy(), dict(self._flops), self._spent
        excluded, started = self._excluded, time.perf_counter()
        try:
            yield
        except torch.OutOfMemoryError:
            settle()
            with self._lock:
                self._rows, self._flops, self._spent = rows, flops, spent
                self._excluded = excluded + time.perf_counter() - started
            raise

    @contextmanager
    def continued(self) -> Iterator[None]:
        """Calls inside go on with a batch: what its rows share has been charged already."""
        before, self._continues = self._continues, True
        try:
            yield
        finally:
            self._continues = before

    def _cost(self, line: Affine, rows: int) -> float:
        return line.per_row * rows if self._continues else line(rows)

    def flops(self) -> dict[tuple[Role, Kind], float]:
        """FLOPs so far, by role and kind."""
        return dict(self._flops)

    def flop_rates(self) -> dict[tuple[Role, Kind], float]:
        """FLOPs per row of every role and kind that was called."""
        return {key: self._flops.get(key, 0.0) / rows for key, rows in self._rows.items() if rows}

    def wrap(
        self,
        role: Role,
        fn: Callable[..., Tensor],
        cost: Cost = 1,
        key: tuple[Any, ...] = (),
        event_shape: tuple[int, ...] | None = None,
        trained: Callable[[], Sequence[Tensor]] = tuple,
    ) -> Callable[..., Tensor]:
        """`fn` with its rows counted; rows are the length of its first argument times `cost`.

        `cost` is 2 where one call runs a network twice (classifier-free guidance), or a function of
        the time, which is then the second argument.
        `key` names the callable in the table of FLOP prices; without one, FLOPs are not counted.
        `event_shape`, if given, is the shape of a row of the first argument and of the result.
        `trained` lists the parameters that a backward reaches, for its price.
        Calls that cannot be counted raise Unmeterable.
        """
        name, priced = (role, *key), bool(key) and self.count_flops

        def metered(x: Tensor, *args: Any) -> Tensor:
            refuse_uncountable(role, (x, *args), event_shape)
            due = self._due(cost, name if priced else None, fn, (x, *args), trained())
            self.charge(role, "forward", due.rows, due.forward)
            out = fn(x, *args)
            if event_shape is not None or role == "reward":
                refuse_shape(role, out, (x.shape[0], *(event_shape or ())))
            if out.requires_grad:
                counted: Tensor = _CountBackward.apply(out, self, role, due.rows, due.backward)
                return counted
            return out

        return metered

    def wrap_jvp(
        self,
        role: Role,
        fn: Callable[..., Tensor],
        key: tuple[Any, ...] = (),
        event_shape: tuple[int, ...] = (),
        cost: Cost = 1,
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        """(x, t, tangent, ...) -> (fn(x, t, ...), its derivative in x along the tangent).

        Counted as JVP rows, `cost` of them per row.  The FLOPs are analytic, twice a forward's:
        every product is done for the value and for the tangent.  No gradient passes.  Attention
        runs written out, which forward mode needs.
        """
        name, priced = (role, *key), bool(key) and self.count_flops

        @torch.no_grad()
        def metered(x: Tensor, t: Tensor, tangent: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
            args = (x, t, *given)
            refuse_uncountable(role, (*args, tangent), event_shape)
            refuse_shape(role, tangent, tuple(x.shape))
            due = self._due(cost, name if priced else None, fn, args)
            self.charge(role, "jvp", due.rows, 2 * due.forward)
            with sdpa_kernel(SDPBackend.MATH):
                value, derivative = torch.func.jvp(lambda x: fn(x, t, *given), (x,), (tangent,))[:2]
            return value, derivative

        return metered

    def _due(
        self,
        cost: Cost,
        name: tuple[Any, ...] | None,
        fn: Callable[..., Tensor],
        args: tuple[Any, ...],
        trained: Sequence[Tensor] = (),
    ) -> _Due:
        """What a call owes; unpriced without a name.  Rows that cost more have another price."""
        batch, total = args[0].shape[0], _Due(0, 0.0, 0.0)
        for part in parts_of(cost, *args):
            forward = backward = 0.0
            if name is not None:
                key = (*name, part.cost) if callable(cost) else name
                found = self.price(key, fn, tuple(part.of(a, batch) for a in args), trained)
                lines = (found.forward, found.backward)
                forward, backward = (self._cost(line, part.rows) for line in lines)
            rows = part.rows * part.cost
            total = _Due(total.rows + rows, total.forward + forward, total.backward + backward)
        return total

    def price(
        self,
        key: tuple[Any, ...],
        fn: Callable[..., Tensor],
        args: Any,
        trained: Sequence[Tensor] = (),
    ) -> Price:
        """The price of a call; counting it for the first time is charged to nobody."""
        found, seconds = price(key, fn, args, trained)
        self._excluded += seconds
        return found


class _CountBackward(torch.autograd.Function):
    """The identity; charges its rows when a gradient passes."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, meter: Meter, role: Role, rows: int, flops: float) -> Tensor:
        ctx.charge = (meter, role, rows, flops)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        meter, role, rows, flops = ctx.charge
        refuse_transforms(role)
        refuse_other_gradients(role, gradients[0])
        meter.charge(role, "backward", rows, flops)
        return gradients[0], None, None, None, None
