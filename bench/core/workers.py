"""Several workers that train as one: what a worker knows of the others.

Every worker runs the same loop on its own rows of each batch; gradients are averaged, so that all
hold the same weights after every step: whole (`Processes`), or in parts (`divided_workers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.core.params import UserError


class WorkerGroup(Protocol):
    """The workers of one training, seen from one of them; all call the same methods in turn."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def home(self, device: str) -> str:
        """Where a network lies before it is divided."""

    def divide(self, network: nn.Module) -> None:
        """Let every worker hold its part of the network's weights, where the group does that."""

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor, in place, by its mean over the workers."""

    def share(self, value: Any) -> Any:
        """The value of rank 0, everywhere."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all workers by rank, everywhere."""


class WorkerGone(Exception):
    """Another worker has ended before its time: whatever became of it, it is its fault."""


BACKENDS = ("gloo", "NCCL")
"""Of torch.distributed, as their errors name themselves."""


def is_for_others(error: Exception) -> bool:
    """Whether an error says that another worker has ended: also where weights are gathered inside
    a network, out of our sight.
    """
    of_backend = isinstance(error, RuntimeError) and any(name in str(error) for name in BACKENDS)
    return of_backend or isinstance(error, WorkerGone)


class HoldingAll:
    """What a worker does that holds a network whole."""

    def home(self, device: str) -> str:
        """The device."""
        return device

    def divide(self, network: nn.Module) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Alone(HoldingAll):
    """A group of one."""

    rank: int = 0
    size: int = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Nothing: a mean of one."""

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def gather(self, value: Any) -> list[Any]:
        """A list of one."""
        return [value]


ALONE = Alone()


@contextmanager
def _with_the_others() -> Iterator[None]:
    """Raise WorkerGone for what torch.distributed raises while it waits for the others."""
    try:
        yield
    except RuntimeError as error:
        raise WorkerGone(f"another worker of this training has ended: {error}") from error


class Processes(HoldingAll):
    """The default process group of torch.distributed, which must be initialised.

    The networks are called by methods of their own (`velocity`, `jump`), which
    DistributedDataParallel does not wrap; one all-reduce of one flat tensor per step replaces it.
    """

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Sum over the workers / their number; the same bits on every worker."""
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with _with_the_others():
            torch.distributed.all_reduce(flat)
        flat /= self.size
        with torch.no_grad():
            means = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, mean in zip(tensors, means, strict=True):
                tensor.copy_(mean.view_as(tensor))

    def share(self, value: Any) -> Any:
        """Pickled, from rank 0 to all."""
        box = [value]
        with _with_the_others():
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Pickled, from all to all."""
        boxes: list[Any] = [None] * self.size
        with _with_the_others():
            torch.distributed.all_gather_object(boxes, value)
        return boxes


def own_rows(group: WorkerGroup, n: int) -> range:
    """The rows of n that fall to this worker: an equal part, in the order of ranks.

    Raises UserError where n cannot be shared equally: the mean of the workers' means would not be
    the mean over the rows.
    """
    if n % group.size:
        raise UserError(
            f"{group.size} workers cannot share {n} rows equally: use a number that divides it"
        )
    each = n // group.size
    return range(group.rank * each, (group.rank + 1) * each)


def joined(group: WorkerGroup, own: Tensor) -> Tensor:
    """The rows of all workers (n, ...), in order, from each worker's own; without a gradient."""
    if group.size == 1:
        return own
    return torch.cat(group.gather(own.detach().cpu())).to(own.device)
