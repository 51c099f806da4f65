"""A fit that several workers share: `resources: {workers: 4}`.

Each computes its own rows of every batch, with the noise that those rows have for one worker alone,
so that the fit is the same up to rounding, and its work the sum of theirs.  With `fsdp: true` each
holds its part of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core import plugins
from bench.core.cells import Cell
from bench.core.divided_workers import DividedProcesses
from bench.core.params import UserError
from bench.core.work import Budget
from bench.core.workers import WorkerGone, WorkerGroup
from bench.plan.resources import divides_weights, of_worker, workers_of
from bench.record.attempt import LOST, Attempt
from bench.runner import memory
from bench.runner.endings import GONE, GOOD, CellEnding, CellResult, ended_by
from bench.runner.executors.parcels import taken_along
from bench.runner.executors.ray_cluster import cluster
from bench.runner.executors.ray_train import Tell, train_together
from bench.runner.fitting import fit
from bench.runner.limits import bounded
from bench.runner.nodes import Machine, differences, lacking


@dataclass(frozen=True)
class Told:
    """What a worker says at its end."""

    rank: int
    made: CellResult


@dataclass(frozen=True)
class SharedFit:
    """The fit of a cell, as every worker runs it.

    local: plugins that the cell names and that another process would not find.  machine: the one
    that started the fit.
    """

    cell: Cell
    budget: Budget | None
    workdir: Path | None
    local: tuple[plugins.Local, ...]
    machine: Machine

    def __call__(self, group: WorkerGroup, device: str, tell: Tell) -> None:
        """Fit this worker's part and tell what came of it; raises where it ended badly, which
        ends the others, who would wait for this one for ever.
        """
        if divides_weights(self.cell):
            group = DividedProcesses(device)
        plugins.add(*self.local)
        memory.keep_freed()
        memory.reset()

        def swollen(attempt: Attempt) -> None:
            ending = CellEnding(attempt.status, attempt.reason)
            tell(Told(group.rank, CellResult(ending)))

        try:
            self._check()
            with bounded(self.cell, str(self.budget or ""), swollen):
                made = fit(self.cell, self.budget, self.workdir, group)
        except Exception as error:
            made = CellResult(ended_by(error))
        if group.rank:
            made = replace(made, fitted=b"", curve=(), info={})
        tell(Told(group.rank, made))
        if made.ending != GOOD:
            raise WorkerGone if made.ending == GONE else UserError(made.ending.reason)

    def _check(self) -> None:
        """Raise UserError where this machine would train another network."""
        here = Machine.here()
        for why in (*differences(self.machine, here), *lacking(self.cell)):
            raise UserError(f"the node {here.host} cannot take part in the fit: {why}")


def fit_together(cell: Cell, budget: Budget | None, workdir: Path | None) -> CellResult:
    """The fit by as many Ray workers as the cell asks for; Ray is started where it is not."""
    told: list[Told] = []
    each, workers = of_worker(cell), workers_of(cell)
    with cluster(None, math.ceil(workers * each["CPU"])) as ray:
        _check_room(ray.cluster_resources(), each, workers)
        folder = None if workdir is None else workdir.resolve()
        shared = SharedFit(cell, budget, folder, taken_along(cell, ray), Machine.here())
        try:
            train_together(shared, workers, each, cell.threads, told.append)
        except (UserError, FloatingPointError) as error:
            bad = [one.made.ending for one in told if one.made.ending not in (GOOD, GONE)]
            return _together(told, bad[0] if bad else _lost(error))
    return _together(told, GOOD)


def _check_room(there: Mapping[str, float], each: Mapping[str, float], workers: int) -> None:
    """Raise UserError where the workers would wait for ever."""
    for name, amount in each.items():
        if amount * workers > there.get(name, 0.0):
            raise UserError(
                f"a fit of {workers} workers needs {amount * workers:g} {name} and Ray has "
                f"{there.get(name, 0.0):g}: let `resources` ask for fewer workers, or give Ray "
                "more (--workers, or another node)"
            )


def _lost(error: Exception) -> CellEnding:
    """A worker that died without a word is like that of any other cell: run again unasked."""
    return CellEnding("failed", f"{LOST}: {error}")


def _together(told: Sequence[Told], ending: CellEnding) -> CellResult:
    """One result: weights and curve of rank 0, and the work of all.

    Workers whose node was taken away began again; what they say last has all of their work.
    """
    last = {one.rank: one.made for one in told}
    first, parts = last.get(0, CellResult()), list(last.values())
    return replace(
        first,
        ending=ending,
        work=_sums([part.work for part in parts], largest=("peak_bytes",)),
        costs=_sums([part.costs for part in parts]),
        fitted=first.fitted if ending == GOOD else b"",
    )


def _sums(parts: Sequence[Mapping[str, float]], largest: Sequence[str] = ()) -> dict[str, float]:
    """Sums by name; of memory the most that one worker held."""
    names: dict[str, Any] = dict.fromkeys(name for part in parts for name in part)
    return {
        name: (max if name in largest else sum)(part.get(name, 0.0) for part in parts)
        for name in names
    }
