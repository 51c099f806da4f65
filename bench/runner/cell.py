"""Run one cell, anywhere: from a job to an attempt that the driver stores."""

from __future__ import annotations

import os
import platform
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench.core import plugins
from bench.core.accelerator import device_name
from bench.core.cells import Cell
from bench.core.integrate import filled
from bench.core.metering import Meter, OverBudget, TimeIsUp
from bench.core.methods import Method
from bench.core.problem import Problem
from bench.core.provenance import commit, processor
from bench.core.returned import BadReturn, checked_samples
from bench.core.seeding import seed_all
from bench.core.values import Samples
from bench.core.work import Budget
from bench.plan.resources import workers_of
from bench.record.attempt import Attempt
from bench.runner import memory
from bench.runner.endings import GOOD, CellResult, Curve, ended_by, ends_process, spent
from bench.runner.energy import joules, spent_since
from bench.runner.fitting import fit
from bench.runner.instances import Instances, instances_of
from bench.runner.isolation import isolated
from bench.runner.measuring import evaluate_cell, pack_samples
from bench.runner.output import bounded_output
from bench.runner.problems import make_problem
from bench.runner.sampling import Sampling
from bench.runner.shards import Shards


@dataclass(frozen=True)
class Job:
    """A cell to run: under which budget, measured by which metrics, from which fitted weights.

    workdir: where a fit keeps its checkpoints, on the machine that runs it; None keeps none.
    shards: where the batches of a cell are kept until it has ended; None keeps none.
    local: plugins that the cell names and that another process would not find.
    """

    cell: Cell
    budget: Budget | None = None
    metrics: tuple[str, ...] = ()
    fitted: bytes | None = None
    workdir: Path | None = None
    shards: Shards | None = None
    local: tuple[plugins.Local, ...] = ()

    @property
    def id(self) -> str:
        """The cell's."""
        return self.cell.id

    def run(self) -> Attempt:
        """Execute it here: fit, or sample (from what a fit left) and measure."""
        plugins.add(*self.local)
        torch.set_num_threads(self.cell.threads)
        memory.keep_freed()
        memory.reset()
        started, before = time.perf_counter(), joules()
        # of a shared fit only the start runs here, and Ray sets variables to stay
        shared = workers_of(self.cell) > 1
        guard = nullcontext("") if shared else isolated(self.id)
        with guard as changes, bounded_output() as printed:
            try:
                made = _fitted(self) if self.cell.part == "fit" else _sample(self)
            except BaseException as error:  # the boundary: whatever a plugin raises becomes data
                if ends_process(error):
                    raise
                made = CellResult(ended_by(error))
        return Attempt(
            self.id,
            **vars(made.ending),
            **{name: value for name, value in vars(made).items() if name != "ending"},
            seconds=time.perf_counter() - started,
            machine=machine(self.cell.device)
            | {"joules": spent_since(before)}
            | ({"changed": str(changes)} if changes else {})
            | ({"printed": str(printed)} if str(printed) else {}),
            budget=str(self.budget or ""),
        )


def _fitted(job: Job) -> CellResult:
    """The cell's fit, here or by the workers that share it."""
    if workers_of(job.cell) == 1:
        return fit(job.cell, job.budget, job.workdir)
    from bench.runner.executors.shared_fit import fit_together

    return fit_together(job.cell, job.budget, job.workdir)


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where and with what a cell ran."""
    return {
        "device": device_name(device),
        "version": version("tiltbench"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
        "processor": processor(),
        "host": platform.node(),
        "process": os.getpid(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def shards_of(job: Job) -> Shards | None:
    """Where the batches of a job are kept; None for a cell that is made in one.

    What decides samples beside the cell is in every shard: budget, device and versions here.
    """
    if job.shards is None or job.cell.total <= job.cell.batch:
        return None
    here = machine(job.cell.device)
    made_by = (str(job.budget or ""), here["device"], here["version"], here["torch"])
    return replace(job.shards, made_by=made_by)


def _sample(job: Job) -> CellResult:
    """Sample the cell's problem and measure; what was stopped keeps its last checkpoint."""
    cell, budget = job.cell, job.budget
    instances, curve = instances_of(cell, job.fitted), Curve()
    made = CellResult(warmup=warm_up(cell, instances))
    in_batches = partial(sample_in_batches, shards=shards_of(job))
    sampling = Sampling(cell, instances, budget, in_batches, curve)
    samples: Samples | None
    seed_all(cell.id)  # again: what was loaded for it may be there already on another worker
    try:
        samples, ending = sampling.samples(), GOOD
    except (OverBudget, TimeIsUp) as error:
        samples, ending = _last_checkpoint(sampling), ended_by(error)
    except Exception as error:
        return replace(made, ending=ended_by(error), curve=tuple(curve))
    work, costs = spent(sampling.work(), cell.total)
    made = replace(made, ending=ending, work=work, costs=costs, curve=tuple(curve))
    try:
        return made if samples is None else _measured(made, samples, instances, job)
    except Exception as error:
        return replace(made, ending=ended_by(error))


def _last_checkpoint(sampling: Sampling) -> Samples | None:
    """What a method that was stopped had declared as worth keeping, if it is any samples."""
    try:
        return sampling.kept()
    except (BadReturn, FloatingPointError):
        return None


def sample_in_batches(
    method: Method[Any], problem: Problem, cell: Cell, shards: Shards | None = None
) -> Samples:
    """All n samples, `batch` at a time; noise is indexed by sample, so batches join up.

    With `shards` each batch is kept, and kept ones are not made again.
    """
    # What is made together stays together: the batch is rounded up to whole populations.
    batch = -(-cell.batch // method.together) * method.together
    rows = [range(start, min(start + batch, cell.n)) for start in range(0, cell.n, batch)]

    def make(of_rows: Problem) -> Samples:
        return one_batch(method, of_rows, cell)

    if shards is None:
        return Samples.joined([make(problem.for_rows(own)) for own in rows])
    return Samples.joined([shards.once(cell.id, problem.for_rows(own), make) for own in rows])


def one_batch(method: Method[Any], problem: Problem, cell: Cell) -> Samples:
    """The samples of a problem's rows; raises where they are not what was asked for."""
    n = len(problem.rows)
    return checked_samples(method.sample(problem, n), cell.method, n, problem.event_shape)


WARM_ROWS = 8
"""Samples of the run that loads weights and fills caches before anything is timed."""


@torch.no_grad()
def warm_up(cell: Cell, instances: Instances) -> float:
    """Seconds of loading weights and of the first call of the flow, before anything is timed."""
    started = time.perf_counter()
    cell = cell.each[0]
    problem = make_problem(cell, instances, Meter(count_flops=True), range(WARM_ROWS))
    x = problem.x0()
    problem.flow.velocity(x, filled(0.5, x))
    return time.perf_counter() - started


def _measured(made: CellResult, samples: Samples, instances: Instances, job: Job) -> CellResult:
    """What was made, with its samples packed and measured."""
    z = {} if samples.log_z is None else {"log_z": samples.log_z}
    packed = pack_samples(samples, instances.task, instances.place)
    made = replace(made, info={**samples.info, **z}, samples=packed)
    seed_all(f"{job.id}/measured")
    rows, scores = evaluate_cell(job.cell, samples, instances, job.metrics)
    return replace(made, metrics=rows, scores=scores)
