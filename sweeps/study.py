"""A study: the trials of one method, decided by nothing but what earlier trials gave.

Trial 0 is the default configuration.  One worker proposes trial k when all earlier ones have ended.
With W > 1 it is proposed as soon as the trials up to k - W - 1 have ended, and on what they gave
alone: the order in which the others end changes nothing, and one cell always waits for a worker.
Trials go on until their number or the total tuning work is reached; what is left of the work
re-scores the leading trials on further tuning seeds, and the best of those is selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

from bench.core.cells import Cell, digest
from bench.core.params import UserError, parse_name
from bench.record.store import Store
from bench.runner.cell import Job
from sweeps.bill import Bill
from sweeps.cell_ends import CellEnds
from sweeps.open_cells import OpenCells
from sweeps.outcomes import Outcomes
from sweeps.planner import Planner, extended
from sweeps.proposals import Told, propose
from sweeps.samplers import make_sampler
from sweeps.selection import Selection
from sweeps.spec import Spec
from sweeps.trials import Trial, TrialOutcome, TrialState


def lag(workers: int) -> int:
    """Trials that are open at once: one more than several workers, so that none of them idles."""
    return workers if workers == 1 else workers + 1


class Study:
    """The trials of one method, and which cell is to be run next."""

    def __init__(self, spec: Spec, planner: Planner, store: Store, workers: int) -> None:
        self.spec, self.planner, self.lag = spec, planner, lag(workers)
        self.label, self.sampler = planner.label, make_sampler(spec.sampler)
        self.trials: list[Trial] = []
        self.closed = False
        self.asked: Callable[[], None] = lambda: None
        self.ends = CellEnds(spec, store)
        self.outcomes = Outcomes(spec, planner, self.ends, self.trials)
        self.directions = self.outcomes.directions
        self.bill = Bill(planner, self.ends, self.outcomes)
        self._open = OpenCells(planner, store, self.ends)
        self._draft: Trial | None = None
        if not planner.space.axes:
            raise UserError(f"{self.label} has nothing to tune at {spec.budget}")

    @cached_property
    def id(self) -> str:
        """Name and hash of the space, the sampler's settings and everything else that decides."""
        decides = self.spec.identity() | {"methods": [self.label], "optuna": version("optuna")}
        space = self.planner.space.describe()
        return f"{parse_name(self.label)[0]}-{digest([space, decides])}"

    # -- trials ----------------------------------------------------------------------------------

    def restore(self, records: Iterable[dict[str, Any]]) -> None:
        """Take over the proposals of an earlier driver."""
        self.trials[:] = [self._planned(Trial(**record)) for record in records]

    def records(self) -> list[dict[str, Any]]:
        """The proposals as plain data."""
        keys = ("number", "params", "label", "seen", "attrs")
        return [{key: getattr(trial, key) for key in keys} for trial in self.trials]

    def told(self) -> list[Told]:
        """Every trial as Optuna would be told of it."""
        return [self._told(trial) for trial in self.trials]

    def _told(self, trial: Trial) -> Told:
        found = self.outcome(trial)
        single = len(self.directions) == 1
        steps = dict(enumerate(found.means, 1)) if single else {}
        state: TrialState = "fail" if found.state == "pruned" and not single else found.state
        return Told(trial.params, state, found.values, steps, trial.attrs)

    def _planned(self, trial: Trial) -> Trial:
        """The trial with its row, or with the reason why it has none."""
        try:
            row = self.planner.row(trial.params if trial.number else {})
        except UserError as error:
            return replace(trial, refused=str(error))
        if row.status != "pending":
            return replace(trial, refused=f"{row.status}: {row.reason}")
        return replace(trial, row=row)

    def _proposal(self) -> Trial:
        """The next trial."""
        k, planner = len(self.trials), self.planner
        if k == 0:
            params = planner.space.restrict(planner.fixed)
            return self._planned(Trial(0, params, self.label, 0))
        seen = max(0, k - self.lag + 1)
        told = [self._told(t) if t.number < seen else _running(t) for t in self.trials]
        seed = self.sampler.seed(self.spec.seed, self.id, k)
        values, attrs = propose(
            planner.space, self.sampler, seed, told, self.directions, planner.fixed
        )
        return self._planned(Trial(k, values, extended(self.label, values), seen, attrs))

    # -- what to run -----------------------------------------------------------------------------

    def next(self, busy: set[str]) -> tuple[Cell, Job] | None:
        """The next cell to run besides the `busy` ones; None if one must wait, or at the end."""
        while True:
            for trial in self._unended():
                found = self._open.first(trial, range(self.spec.tuning_seeds), busy)
                if found is not None:
                    return found
            if self.closed or not self._extend():
                break
        finals = self.selection.finals if self.closed else []
        cells = (self._open.first(trial, [index], busy) for trial, index in finals)
        return next((found for found in cells if found is not None), None)

    def _extend(self) -> bool:
        """Add a trial, or close the study; False if neither can be decided yet."""
        k, running = len(self.trials), self._unended()
        limit = self.sampler.limit(self.planner.space)
        if k >= self.spec.trials or (limit is not None and k > limit):
            self.closed = not running
            return False
        if any(t.number < k - self.lag + 1 for t in running):
            return False
        self._draft = self._draft or self._proposal()
        if k and self.spent([*self.trials, self._draft]) > self.total * (1 + 1e-9):
            self.closed = not running
            return False
        self.trials.append(self._draft)
        self._draft = None
        self.asked()
        return True

    def _unended(self) -> list[Trial]:
        return [trial for trial in self.trials if self.outcome(trial).state == "running"]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return self.closed and self.selection.finished

    # -- what came of it -------------------------------------------------------------------------

    def outcome(self, trial: Trial) -> TrialOutcome:
        """How a trial stands, from the cells that have ended."""
        return self.outcomes.of(trial)

    @cached_property
    def total(self) -> float:
        """The tuning work, in the budget's unit."""
        return self.spec.total_work(len(self.planner.conditions))

    def spent(self, trials: Iterable[Trial] | None = None) -> float:
        """Work of trials (default: all), planned where it is to come, every cell once."""
        return sum(self.bill.of(self.trials if trials is None else trials).values())

    @property
    def work(self) -> float:
        """All tuning work so far, re-scoring included, which samples from fits paid for already."""
        total = self.bill.of(self.trials)
        for trial, index in self.selection.finals if self.closed else ():
            total |= self.bill.of_rounds(trial, [index])
        return sum(total.values())

    @cached_property
    def selection(self) -> Selection:
        """The leaders, as soon as the study is closed."""
        left = self.total - self.spent()
        return Selection(self.trials, self.planner, self.ends, self.outcomes, left)

    @property
    def best(self) -> Trial | None:
        """The trial that is chosen; None if no trial completed."""
        return self.selection.best


def _running(trial: Trial) -> Told:
    return Told(trial.params, "running", attrs=trial.attrs)
