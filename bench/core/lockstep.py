"""Runs of the same algorithm in lock step: each has its own state, their network calls are joined.

    run 1:  x1 ----.          .---- b(x1) ----.           .---- gradient ...
    run 2:  x2 ----+-- b(x) --+---- b(x2) ----+-- J_b' g --+---- ...
    run 3:  x3 ----'          '---- b(x3) ----'           '---- ...

A run is ordinary code, which knows of no other: it calls a function of rows and gets its rows back.
Runs live in threads of which one is awake at a time, in their order, until every one of them waits
for an answer; calls of one function are then answered by one call on all their rows, and gradients
(`torch.autograd.grad`) by one pass through the graph that they share.  What a run gets depends on
the others through the rounding of larger batches alone, since networks treat rows one by one.

Runs whose ways part (one resamples, another does not) wait for each other again: the ones that have
asked least are answered first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from bench.core.joined_calls import Call, Gradient

T = TypeVar("T")


class _Stopped(BaseException):
    """Ends a run whose neighbour has failed; no `except Exception` of a method holds it up."""


@dataclass(frozen=True)
class _Failed:
    """An answer that is an error."""

    error: BaseException


class _JoinedGradients(TorchFunctionMode):
    """Sends `torch.autograd.grad` to a lane's neighbours."""

    def __init__(self, lane: Lane) -> None:
        super().__init__()
        self.lane = lane

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.autograd.grad and not self.lane.apart:
            return self.lane.ask(Gradient.of(*args, **given))
        if func is torch.Tensor.backward:  # the others may still need the graph that they share
            given["retain_graph"] = True
        return func(*args, **given)


class Lane:
    """One of the runs: where it stands, what it asks for, and what it was answered."""

    def __init__(self) -> None:
        self.asked = 0
        self.request: Call | Gradient | None = None
        self.apart = self.stopped = self.done = False
        self._answer: Any = None
        self._random = torch.get_rng_state()
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)

    def joined(
        self, name: tuple[Any, ...], fn: Callable[..., Tensor], spread: bool
    ) -> Callable[..., Tensor]:
        """`fn`, a function of rows that all lanes know under `name`, answered for all at once.

        With `spread`, arguments that are no tensors may differ between lanes: `fn` then gets
        `RowConditions` in their place.
        """

        def called(*args: Any) -> Tensor:
            if self.apart:
                return fn(*args)
            answer: Tensor = self.ask(Call(name, fn, args, spread, torch.is_grad_enabled()))
            return answer

        return called

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What is called inside is nobody else's: it runs here and now."""
        before, self.apart = self.apart, True
        try:
            yield
        finally:
            self.apart = before

    def ask(self, request: Call | Gradient) -> Any:
        """Wait for the answer."""
        if self.stopped:
            raise _Stopped
        self.request, self.asked = request, self.asked + 1
        self._back.release()
        self._turn.acquire()
        if self.stopped:
            raise _Stopped
        answer, self._answer, self.request = self._answer, None, None
        if isinstance(answer, _Failed):
            raise answer.error
        return answer

    def wake(self, answer: Any = None) -> None:
        """Give the lane its turn, until it asks again or is done.

        It has torch's random numbers to itself, as every lane has from where they began: what draws
        past `Problem.noise`, against the contract, does not depend on the others at least.
        """
        outside, self._answer = torch.get_rng_state(), answer
        torch.set_rng_state(self._random)
        self._turn.release()
        self._back.acquire()
        self._random = torch.get_rng_state()
        torch.set_rng_state(outside)

    def run(self, work: Callable[[Lane], None], gradient: bool) -> None:
        """The body of the lane's thread."""
        self._turn.acquire()
        try:
            if not self.stopped:
                with torch.set_grad_enabled(gradient), _JoinedGradients(self):
                    work(self)
        finally:
            self.done = True
            self._back.release()


class Lockstep(Generic[T]):
    """Runs that share their calls; `width` bounds how many lanes one call answers.

    Where a joint call does not fit the memory, fewer lanes share the next; a lane whose own rows do
    not fit gets the error, and so do those whose joint gradient does not.
    """

    def __init__(self) -> None:
        self.width: int | None = None

    def run(self, works: Sequence[Callable[[Lane], T]]) -> list[T]:
        """What each returns.  The first error of any ends all, and is raised."""
        results: dict[int, T] = {}
        errors: list[BaseException] = []
        lanes = [Lane() for _ in works]

        def body(k: int) -> Callable[[Lane], None]:
            def work(lane: Lane) -> None:
                try:
                    results[k] = works[k](lane)
                except _Stopped:
                    pass
                except BaseException as error:
                    errors.append(error)

            return work

        threads = [_thread(lane, body(k)) for k, lane in enumerate(lanes)]
        try:
            self._led(lanes, errors)
        finally:
            for lane in lanes:
                if not lane.done:
                    lane.stopped = True
                    lane.wake()
            for thread in threads:
                thread.join()
        return [results[k] for k in range(len(works))]

    def _led(self, lanes: list[Lane], errors: list[BaseException]) -> None:
        """Wake lanes and answer them until all are done."""
        answers: list[tuple[Lane, Any]] = [(lane, None) for lane in lanes]
        while answers:
            for lane, answer in answers:
                lane.wake(answer)
                if errors:
                    raise errors[0]
            live = [lane for lane in lanes if not lane.done]
            answers = self._answers(live) if live else []

    def _answers(self, live: list[Lane]) -> list[tuple[Lane, Any]]:
        """The answers of one kind of requests: of those who have asked least."""
        kinds: dict[tuple[Any, ...], list[Lane]] = {}
        for lane in live:
            assert lane.request is not None
            kinds.setdefault(lane.request.kind, []).append(lane)
        group = min(kinds.values(), key=lambda lanes: min(lane.asked for lane in lanes))
        found = self._answered([lane.request for lane in group], len(group) == len(live))
        return list(zip(group, found, strict=True))

    def _answered(self, asked: list[Any], everybody: bool) -> list[Any]:
        """One answer each; errors are answers."""
        calls = isinstance(asked[0], Call)
        width = self.width if calls and self.width is not None else len(asked)
        if width < len(asked):
            parts = [asked[k : k + width] for k in range(0, len(asked), width)]
            return [answer for part in parts for answer in self._answered(part, False)]
        try:
            found: list[Any] = asked[0].joint(asked, everybody)
            return found
        except torch.OutOfMemoryError as error:
            said, self.width = str(error), max(1, (len(asked) + 1) // 2)
        except Exception as error:
            return [_Failed(error)] * len(asked)
        # outside the handler, and with an error of its own for each: a traceback keeps tensors
        if calls and len(asked) > 1:
            return self._answered(asked, everybody)
        return [_Failed(torch.OutOfMemoryError(said)) for _ in asked]


def _thread(lane: Lane, work: Callable[[Lane], None]) -> threading.Thread:
    context, gradient = copy_context(), torch.is_grad_enabled()
    thread = threading.Thread(target=context.run, args=(lane.run, work, gradient), daemon=True)
    thread.start()
    return thread
