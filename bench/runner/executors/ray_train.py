"""Data-parallel training: how Ray Train starts the workers, and how they are heard.

One worker needs none of this and never imports Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from bench.core.params import UserError
from bench.core.workers import Processes, WorkerGone, WorkerGroup

POLL = 0.3
"""Seconds between two looks at what the workers had to say."""

Tell = Callable[[Any], None]
"""Takes a note of any worker to whoever started the training."""

Loop = Callable[[WorkerGroup, str, Tell], object]
"""What every worker runs: (its group, its device, tell); it is pickled, and so are the notes."""


class Board:
    """An actor that holds the notes of the workers until the driver takes them."""

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
        # Waiting for the answer keeps the notes in order and none behind when the worker ends.
        ray.get(board.post.remote(note))

    config["loop"](group, str(ray_torch.get_device()), tell)


def train_together(
    loop: Loop, workers: int, each: Mapping[str, float], threads: int, hear: Tell
) -> None:
    """Run `loop` on `workers` Ray workers; `hear` gets their notes, here, as they come.

    `each` is what a worker takes, in Ray's names.  Ray must be initialised.  Raises what a worker
    raised if it is a UserError or a FloatingPointError, and otherwise a UserError that names the
    worker and its error: a started training goes on from its last checkpoint when it is started
    again.
    """
    import tempfile

    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cuda = bool(each.get("GPU"))
    board = ray.remote(Board).options(num_cpus=0).remote()
    pool = ThreadPoolExecutor(1)
    with tempfile.TemporaryDirectory(prefix="tiltbench-", ignore_cleanup_errors=True) as scratch:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"loop": loop, "board": board, "threads": threads},
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cuda else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers, use_gpu=cuda, resources_per_worker=dict(each)
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
    causes = {rank: getattr(each, "cause", None) or each for rank, each in failures.items()}
    # those that only waited for another one come last
    for rank, cause in sorted(causes.items(), key=lambda c: (isinstance(c[1], WorkerGone), c[0])):
        if isinstance(cause, UserError | FloatingPointError):
            return cause
        return UserError(
            f"training worker {rank} failed ({type(cause).__name__}: {cause}): mend that and give "
            "the same command again, it goes on from the last checkpoint"
        )
    return error
