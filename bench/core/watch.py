"""What a loop wants to know of its device, without waiting for it at every step.

A host that reads a number off an accelerator waits until all that was launched is done, and the
accelerator is idle until it hears of the next step.  A `Watch` keeps scalars and the places of
values that are not finite on the device and reads them together, every `READ_EVERY` steps and at
the end.  What it then tells is what would have been told at once: curves are the same, and the
first bad step is the one that is named, though up to READ_EVERY - 1 more have been computed.

There is nothing to wait for on the CPU, where every step is looked at as it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from bench.core.integrate import at_step

READ_EVERY = 16
"""Steps S between two waits for a device."""

Scalars = Mapping[str, float | Tensor]
"""Diagnostics of a step; tensors have no dimensions and may lie on a device."""

Tell = Callable[[int, dict[str, float]], None]
"""(step, its scalars)."""


@dataclass(frozen=True)
class _Doubt:
    """A number on the device, what raises if it is wrong, and the step in which it came up."""

    value: Tensor
    check: Callable[[float], None]
    step: tuple[int, float] | None


@dataclass(frozen=True)
class _Note:
    """Scalars of a step."""

    step: int
    scalars: Scalars


class Watch:
    """The scalars and doubts of a loop, in the order in which they came.

    Args:
        tell: hears the scalars of every step, once they are known.
        device: that of the loop's state.
    """

    def __init__(self, tell: Tell, device: torch.device) -> None:
        self._tell, self._every = tell, 1 if waits_for_none(device) else READ_EVERY
        self._pending: list[_Doubt | _Note] = []
        self._notes = 0
        self.step: tuple[int, float] | None = None
        self._token: Token[Watch | None] | None = None

    def __enter__(self) -> Watch:
        self._token = _OPEN.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Read what is left; if an error ended the loop, an earlier one comes before it."""
        assert self._token is not None
        _OPEN.reset(self._token)
        if error is None or isinstance(error, Exception):
            self.read()

    def doubt(self, value: Tensor, check: Callable[[float], None]) -> None:
        """Call `check`, which may raise, when the value is read, as if in the present step."""
        self._pending.append(_Doubt(value.detach(), check, self.step))

    def note(self, step: int, scalars: Scalars) -> None:
        """End a step with its scalars; every so many, wait for the device and tell them."""
        self._pending.append(_Note(step, {name: _kept(v) for name, v in scalars.items()}))
        self._notes += 1
        if self._notes == self._every:
            self.read()

    def read(self) -> None:
        """Tell and check all that is pending, in the order in which it came."""
        pending, self._pending, self._notes = self._pending, [], 0
        values = iter(_read([v for entry in pending for v in _tensors(entry)]))
        for entry in pending:
            if isinstance(entry, _Doubt):
                with at_step(*entry.step) if entry.step else nullcontext():
                    entry.check(next(values))
                continue
            told = {k: next(values) if _far(v) else float(v) for k, v in entry.scalars.items()}
            self._tell(entry.step, told)


_OPEN: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def in_step(k: int, t: float) -> Iterator[None]:
    """`at_step`, also for what is read later: errors that arise inside name this step."""
    watch = _OPEN.get()
    if watch is not None:
        watch.step = (k, t)
    with at_step(k, t):
        yield
    if watch is not None:
        watch.step = None


def watching(x: Tensor) -> Watch | None:
    """The watch that is open here, if x lies where one has to wait."""
    return None if waits_for_none(x.device) else _OPEN.get()


def when_known(value: Tensor, check: Callable[[float], None]) -> None:
    """Call `check`, which may raise, with a number: when a watch reads it, or without one, now."""
    watch = watching(value)
    if watch is None:
        check(float(value))
    else:
        watch.doubt(value, check)


def waits_for_none(device: torch.device) -> bool:
    """Whether values of this device are at hand."""
    return device.type == "cpu"


@torch.no_grad()
def first_bad(x: Tensor) -> Tensor:
    """The first row of x that holds a NaN or an infinity, or -1; without dimensions."""
    if not x.numel():
        return torch.full((), -1, device=x.device)
    bad = ~torch.isfinite(x).reshape(len(x), -1).all(1)
    return torch.where(bad.any(), bad.int().argmax(), -1)


def _far(value: float | Tensor) -> bool:
    """Whether one has to wait for a scalar."""
    return isinstance(value, Tensor) and not waits_for_none(value.device)


def _kept(value: float | Tensor) -> float | Tensor:
    """A scalar, without its graph; a number already unless one has to wait for it."""
    if isinstance(value, Tensor):
        value = value.detach()
    return value if _far(value) else float(value)


def _tensors(entry: _Doubt | _Note) -> list[Tensor]:
    if isinstance(entry, _Doubt):
        return [entry.value]
    return [v for v in entry.scalars.values() if isinstance(v, Tensor)]


def _read(values: list[Tensor]) -> list[float]:
    """Numbers of scalars, in one wait; float64 holds those of every dtype exactly."""
    found: list[float] = torch.stack([v.double() for v in values]).tolist() if values else []
    return found
