"""Rows in pieces that fit the memory of a device.

`in_rows(fn, *batched)` calls `fn` on all rows at once while they fit.  A call that runs out of
memory is undone in the ledger, and the piece is halved; the size that fitted is remembered, so
that the next call of that kind starts with it.  What a method costs does not depend on how much
memory there was: rows are charged once, by the piece that succeeds, and work that a batch shares is
charged to the first piece.  Results agree with those of one piece up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.core.metering import Meter
from bench.core.params import UserError

F = TypeVar("F")

_FITTED: dict[Hashable, int] = {}
"""The largest piece that may still fit, by device, shapes, dtypes, gradient mode and key."""


def in_rows(
    fn: Callable[..., Any],
    *batched: Tensor,
    meter: Meter | None = None,
    most: int | None = None,
    key: Hashable = (),
) -> Any:
    """fn(*batched), in as many pieces of the first dimension as memory makes necessary.

    Args:
        fn: rows to a tensor of as many rows, or a tuple of such tensors and Nones.
        meter: the ledger that calls within `fn` charge.
        most: the largest piece, or None.
        key: tells apart functions whose rows have the same shape and need different memory.

    Raises UserError if a single row does not fit.
    """
    kind = (_kind(batched), key)
    rows, start, done = batched[0].shape[0], 0, list[Any]()
    while start < rows or not done:
        size = min(rows - start, _FITTED.get(kind, rows), most or rows)
        piece = batched if size == rows else tuple(v[start : start + size] for v in batched)
        fits, out = _tried(fn, piece, meter, later=bool(done))
        if fits:
            done.append(out)
            start += size
        else:
            _FITTED[kind] = _halved(size, batched[0])
    return done[0] if len(done) == 1 else _joined(done)


def _kind(batched: tuple[Tensor, ...]) -> Hashable:
    grad = torch.is_grad_enabled()
    shapes = ((tuple(v.shape[1:]), v.dtype, grad and v.requires_grad) for v in batched)
    return str(batched[0].device), tuple(shapes), grad


def _tried(
    fn: Callable[..., Any], piece: tuple[Tensor, ...], meter: Meter | None, later: bool
) -> tuple[bool, Any]:
    """Whether a piece fits, and what came out; outside the handler, which keeps tensors alive."""
    try:
        with ExitStack() as stack:
            stack.enter_context(_attempt(meter))
            if later and meter is not None:
                stack.enter_context(meter.continued())
            return True, fn(*piece)
    except torch.OutOfMemoryError:
        return False, None


def _attempt(meter: Meter | None) -> AbstractContextManager[Any]:
    return nullcontext() if meter is None else meter.attempt()


def _halved(size: int, like: Tensor) -> int:
    if size <= 1:
        raise UserError(
            f"a single row of shape {tuple(like.shape[1:])} does not fit the memory of "
            f"'{like.device}': use --dtype bfloat16, a smaller network or a larger card"
        )
    if like.is_cuda:
        torch.cuda.empty_cache()
    return (size + 1) // 2


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    columns = zip(*parts, strict=True)
    return tuple(None if column[0] is None else torch.cat(column) for column in columns)


class Memory:
    """Whether a computation of so many rows still runs in one piece: until it has failed once.

    Args:
        meter: the ledger, in which a failed attempt leaves nothing.
        rows: of the whole.  most: the largest piece, or None.
    """

    def __init__(self, meter: Meter, rows: int, most: int | None) -> None:
        self.meter, self.whole = meter, most is None or rows <= most

    def first_fit(self, whole: Callable[[], F], pieces: Callable[[], F]) -> F:
        """What `whole` gives, or `pieces` where memory does not suffice for it."""
        if self.whole:
            try:
                with self.meter.attempt():
                    return whole()
            except torch.OutOfMemoryError:
                self.whole = False
        return pieces()
