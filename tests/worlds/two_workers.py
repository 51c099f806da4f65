"""Two processes that train together, by torch alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import multiprocessing as mp
from torch.utils._pytree import tree_leaves

from bench.core.divided import is_divided
from bench.core.divided_workers import DividedProcesses
from bench.core.workers import Processes, WorkerGroup
from bench.training.trainer import Trainer

GROUPS = {"whole": Processes, "divided": lambda: DividedProcesses("cpu")}
"""How workers hold the weights."""


@dataclass
class Told:
    """What a rank says of the k-th job.

    made: what the job gave.  steps: those that this rank took part in.
    held: numbers of this rank in the weights, their average and the optimiser's state.
    """

    rank: int
    k: int
    made: Any = None
    steps: list[int] = field(default_factory=list)
    held: int = 0


Job = Callable[[WorkerGroup], Any]
"""Run by both; it is pickled, and so is what it gives."""


def together(held: str, jobs: Sequence[Job], folder: Path) -> dict[tuple[int, int], Told]:
    """{(rank, k): what it says of the k-th job}, by two processes."""
    context = mp.get_context("spawn")
    answers = context.Queue()
    for rank in range(2):
        args = (rank, folder / "meeting", held, jobs, answers)
        context.Process(target=serve, args=args, daemon=True).start()
    told = [answers.get(timeout=300) for _ in range(2 * len(jobs))]
    return {(one.rank, one.k): one for one in told}


def numbers_of(trainer: Trainer) -> int:
    """Of all that grows with the network, as far as this process holds it."""
    states = [trainer.optimizer.state_dict()["state"]]
    tensors = [*trainer.model.parameters(), *trainer.average.parameters(), *tree_leaves(states)]
    own = [t.to_local() if is_divided(t) else t for t in tensors if isinstance(t, Tensor)]
    return sum(tensor.numel() for tensor in own if tensor.dim())


def serve(rank, rendezvous, held, jobs, answers):
    """Rank `rank` of two: every job in turn, and what it says of each into the queue."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    update = Trainer._update

    def watched(trainer: Trainer) -> dict[str, float]:
        told.steps.append(trainer.step)
        seen = update(trainer)
        told.held = numbers_of(trainer)
        return seen

    Trainer._update = watched  # type: ignore[method-assign]
    group = GROUPS[held]()
    for k, job in enumerate(jobs):
        told = Told(rank, k)
        told.made = job(group)
        answers.put(told)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
