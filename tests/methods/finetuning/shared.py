"""Two processes that share fits, by torch alone: what the tests of shared fits start."""

import torch

from bench.core.workers import Processes
from bench.runner.fitting import fit
from bench.training.trainer import Trainer


def serve(rank, rendezvous, cells, answers):
    """Rank `rank` of two: every cell's fit in turn; (rank, k, result, steps that it took) of each
    into the queue.
    """
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2
    )
    update, steps = Trainer._update, list[int]()
    Trainer._update = lambda trainer: (steps.append(trainer.step), update(trainer))[1]
    for k, (cell, workdir) in enumerate(cells):
        steps.clear()
        answers.put((rank, k, fit(cell, None, workdir, Processes()), list(steps)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
