"""The rows of a call, by what each of them costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Cost = int | Callable[[float], int]
"""Network rows per row of a call: always the same, or a function of its time."""


class Part(NamedTuple):
    """Rows of a call that cost the same: `rows` of them, `where` they are, or all if None."""

    cost: int
    rows: int
    where: Tensor | None = None

    def of(self, value: Any, batch: int) -> Any:
        """These rows of an argument that has one for each."""
        if self.where is None or not isinstance(value, Tensor):
            return value
        return value[self.where] if value.dim() and len(value) == batch else value


def parts_of(cost: Cost, x: Tensor, *args: Any) -> list[Part]:
    """The rows of a call fn(x, t, ...), by what each costs.

    Where that follows the time, the times are read: the host waits for the device once per call.
    """
    if not callable(cost):
        return [Part(cost, len(x))]
    each = [cost(t) for t in args[0].tolist()]
    if len(set(each)) == 1:
        return [Part(each[0], len(x))]
    where = {c: [k for k, own in enumerate(each) if own == c] for c in sorted(set(each))}
    return [Part(c, len(at), torch.tensor(at, device=x.device)) for c, at in where.items()]
