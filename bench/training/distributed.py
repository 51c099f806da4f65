"""Data-parallel training: what a worker knows of the others, and how Ray Train starts them.

Every worker runs the same loop on its own shard of each batch; gradients are averaged, so that all
hold the same weights after every step.  One worker needs none of this and never imports Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.core.params import UserError

POLL = 0.3
"""Seconds between two looks at what rank 0 had to say."""


class WorkerGroup(Protocol):
    """The workers of one training, seen from one of them."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor, in place, by its mean over the workers."""

    def share(self, value: Any) -> Any:
        """The value of rank 0, everywhere."""


@dataclass(frozen=True)
class Alone:
    """A group of one."""

    rank: int = 0
    size: int = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Nothing: a mean of one."""

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value


class Processes:
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
        torch.distributed.all_reduce(flat)
        flat /= self.size
        with torch.no_grad():
            means = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, mean in zip(tensors, means, strict=True):
                tensor.copy_(mean.view_as(tensor))

    def share(self, value: Any) -> Any:
        """Pickled, from rank 0 to all."""
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]


Tell = Callable[[Any], None]
"""Takes a note to whoever started the training."""

Loop = Callable[[WorkerGroup, str, Tell], object]
"""What every worker runs: (its group, its device, tell); it is pickled, and so are the notes."""


class Board:
    """An actor that holds the notes of rank 0 until the driver takes them."""

    def __init__(self) -> None:
        self._notes: list[Any] = []

    def post(self, note: Any) -> None:
        """Add a note."""
        self._notes.append(note)

    def take(self) -> list[Any]:
        """All notes since the last call."""
        notes, self._notes = self._notes, []
        return notes


def _work(config: dict[str, Any]) -> None:
    """One worker, in a process of its own."""
    import ray
    from ray.train import torch as ray_torch

    torch.set_num_threads(config["threads"])
    group, board = Processes(), config["board"]

    def tell(note: Any) -> None:
        if group.rank == 0:
            # Waiting for the answer keeps the notes in order and none behind when the worker ends.
            ray.get(board.post.remote(note))

    config["loop"](group, str(ray_torch.get_device()), tell)


def train_together(loop: Loop, workers: int, cuda: bool, threads: int, hear: Tell) -> None:
    """Run `loop` on `workers` Ray workers; `hear` gets rank 0's notes, here, as they come.

    Ray must be initialised.  Raises what a worker raised if it is a UserError or a
    FloatingPointError, and otherwise a UserError that names the worker and its error: a started
    training goes on from its last checkpoint when it is started again.
    """
    import tempfile

    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    board = ray.remote(Board).options(num_cpus=0).remote()
    pool = ThreadPoolExecutor(1)
    with tempfile.TemporaryDirectory(prefix="tiltbench-", ignore_cleanup_errors=True) as scratch:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"loop": loop, "board": board, "threads": threads},
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cuda else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=cuda, resources_per_worker={"CPU": threads}
            ),
            run_config=RunConfig(name="training", storage_path=scratch),
        )
        fit = pool.submit(trainer.fit)
        try:
            while not fit.done():
                time.sleep(POLL)
                _relay(ray, board, hear)
        finally:
            pool.shutdown(wait=False)  # an interrupted driver ends Ray, and Ray ends the fit
        _relay(ray, board, hear)
        if (error := fit.exception()) is not None:
            raise _told(error) from error


def _relay(ray: Any, board: Any, hear: Tell) -> None:
    for note in ray.get(board.take.remote()):
        hear(note)


def _told(error: BaseException) -> BaseException:
    """The first worker's own error, if it is one that a user is meant to read."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    for rank, failure in sorted(failures.items()):
        cause = getattr(failure, "cause", None) or failure
        if isinstance(cause, UserError | FloatingPointError):
            return cause
        return UserError(
            f"training worker {rank} failed ({type(cause).__name__}: {cause}): mend that and give "
            "the same command again, it goes on from the last checkpoint"
        )
    return error
