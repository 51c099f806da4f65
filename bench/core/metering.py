"""The meter: every callable that a method sees counts its rows, and stops at the budget.

Forward rows are counted on the call; backward rows by an identity autograd function on the
output, so that whatever part of a graph is differentiated is charged when it happens.  Function
transforms (`torch.func`, forward-mode AD) would pass the counter by and are refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bench.core.work import ROLES, Role, Rows, Unit, Work

Kind = Literal["forward", "backward", "jvp"]


class OverBudget(Exception):
    """A call would have spent more than the budget allows."""


class TimeIsUp(Exception):
    """The cell's time limit has passed."""


class Unmeterable(RuntimeError):
    """A call that the meter cannot count."""


class Meter:
    """The ledger of one sampling or one fit.

    Args:
        limit: the largest total cost, in `unit`, or None.
        unit: the unit of the limit.
        deadline: seconds from now after which every call raises TimeIsUp.
    """

    def __init__(
        self,
        limit: float | None = None,
        unit: Unit = "paper-nfe",
        deadline: float | None = None,
    ) -> None:
        self.limit, self.unit, self.deadline = limit, unit, deadline
        self._rows: Counter[tuple[Role, Kind]] = Counter()
        self._started = time.perf_counter()

    def charge(self, role: Role, kind: Kind, rows: int) -> None:
        """Count `rows`; raises OverBudget before anything is computed beyond the limit."""
        if self.deadline is not None and self.elapsed() > self.deadline:
            raise TimeIsUp(f"stopped after {self.deadline:g} s")
        self._rows[role, kind] += rows
        if self.limit is None:
            return
        # Rounding of fractional predictions must not stop a run that is exactly on budget.
        if self.unit in ("paper-nfe", "model-nfe") and self.work().cost(self.unit) > (
            self.limit * (1 + 1e-9)
        ):
            self._rows[role, kind] -= rows
            raise OverBudget(f"{role} {kind} of {rows} rows exceeds {self.limit:g} {self.unit}")

    def elapsed(self) -> float:
        """Seconds since the meter started."""
        return time.perf_counter() - self._started

    def work(self) -> Work:
        """What was counted so far."""
        rows: dict[str, Any] = {
            role: Rows(*(self._rows[role, kind] for kind in ("forward", "backward", "jvp")))
            for role in ROLES
        }
        return Work(**rows, seconds=self.elapsed())

    def wrap(self, role: Role, fn: Callable[..., Tensor], cost: int = 1) -> Callable[..., Tensor]:
        """`fn` with its rows counted; rows are the length of its first argument times `cost`."""

        def metered(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            refuse_transforms(role)
            rows = x.shape[0] * cost
            self.charge(role, "forward", rows)
            out = fn(x, *args, **kwargs)
            if out.requires_grad:
                counted: Tensor = _CountBackward.apply(out, self, role, rows)
                return counted
            return out

        return metered


class _CountBackward(torch.autograd.Function):
    """The identity; charges its rows when a gradient passes."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, meter: Meter, role: Role, rows: int) -> Tensor:
        ctx.charge = (meter, role, rows)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        meter, role, rows = ctx.charge
        meter.charge(role, "backward", rows)
        return gradients[0], None, None, None


def refuse_transforms(role: Role) -> None:
    """Raise Unmeterable under torch.func transforms or forward-mode AD."""
    functorch = torch._C._functorch.maybe_current_level()  # no public query exists
    if functorch is not None or forward_ad._current_level >= 0:
        raise Unmeterable(
            f"the {role} was called under torch.func or forward-mode AD, which the meter cannot "
            "count; use torch.autograd.grad, or declare the work through problem.jvp"
        )
