"""A study: the trials of one method, decided by nothing but what earlier trials gave.

Trial 0 is the default configuration.  One worker proposes trial k when all earlier ones have ended.
With W > 1 it is proposed as soon as the trials up to k - W - 1 have ended, and on what they gave
alone: the order in which the others end changes nothing, and one cell always waits for a worker.
Trials go on until their number or the total tuning work is reached; what is left of the work
re-scores the leading trials on further tuning seeds, and the best of those is selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

from bench.core.cells import Cell, Planned, digest
from bench.core.params import UserError, parse_name
from bench.record.store import Store
from bench.runner.executors import Job
from bench.runner.measuring import wanted_metrics
from sweeps.planner import Planner, extended
from sweeps.proposals import State, Told, propose
from sweeps.samplers import make_sampler
from sweeps.space import Values
from sweeps.spec import SECONDS, Spec, direction_of

FINALISTS = 3
"""Leading trials that are re-scored with the work that is left."""

HOPELESS = ("diverged", "timeout", "over_budget")
"""Statuses that say something about the parameters: told to Optuna as pruned, others as failed."""

PRUNED, INFEASIBLE = "pruned after", "infeasible"


def lag(workers: int) -> int:
    """Trials that are open at once: one more than several workers, so that none of them idles."""
    return workers if workers == 1 else workers + 1


@dataclass(frozen=True)
class Trial:
    """A proposal; `seen` earlier trials had been told when it was made."""

    number: int
    params: Values
    label: str
    seen: int
    attrs: dict[str, Any] = field(default_factory=dict)
    row: Planned | None = None
    refused: str = ""


@dataclass(frozen=True)
class Ended:
    """How a cell ended: its status, the objectives, and its cost in the budget's unit."""

    status: str
    reason: str
    values: tuple[float, ...]
    cost: float | None


@dataclass(frozen=True)
class Outcome:
    """How a trial stands; `means[i]` is the first objective over the first i + 1 seeds."""

    state: State
    values: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    reason: str = ""


class Study:
    """The trials of one method, and which cell is to be run next."""

    def __init__(self, spec: Spec, planner: Planner, store: Store, workers: int) -> None:
        self.spec, self.planner, self.store, self.lag = spec, planner, store, lag(workers)
        self.label = planner.label
        self.sampler, self.pruner = make_sampler(spec.sampler), spec.pruner
        self.directions = [direction_of(name) for name in spec.objectives]
        self.trials: list[Trial] = []
        self.closed = False
        self.asked: Callable[[], None] = lambda: None
        self._draft: Trial | None = None
        self._ended: dict[str, Ended] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._bills: dict[int, dict[str, float]] = {}
        if not planner.space.axes:
            raise UserError(f"{self.label} has nothing to tune at {spec.budget}")

    @cached_property
    def id(self) -> str:
        """Name and hash of the space, the sampler's settings and everything else that decides."""
        decides = self.spec.identity() | {"methods": [self.label], "optuna": version("optuna")}
        space = self.planner.space.describe()
        return f"{parse_name(self.label)[0]}-{digest([space, decides])}"

    @cached_property
    def total(self) -> float:
        """The tuning work, in the budget's unit."""
        return self.spec.total_work(len(self.planner.conditions))

    # -- trials ----------------------------------------------------------------------------------

    def restore(self, records: Iterable[dict[str, Any]]) -> None:
        """Take over the proposals of an earlier driver."""
        self.trials = [self._planned(Trial(**record)) for record in records]

    def records(self) -> list[dict[str, Any]]:
        """The proposals as plain data."""
        keys = ("number", "params", "label", "seen", "attrs")
        return [{key: getattr(trial, key) for key in keys} for trial in self.trials]

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
        told = [self._told(t) if t.number < seen else self._running(t) for t in self.trials]
        seed = self.sampler.seed(self.spec.seed, self.id, k)
        values, attrs = propose(
            planner.space, self.sampler, seed, told, self.directions, planner.fixed
        )
        return self._planned(Trial(k, values, extended(self.label, values), seen, attrs))

    def _told(self, trial: Trial) -> Told:
        found = self.outcome(trial)
        single = len(self.directions) == 1
        steps = dict(enumerate(found.means, 1)) if single else {}
        state: State = "fail" if found.state == "pruned" and not single else found.state
        return Told(trial.params, state, found.values, steps, trial.attrs)

    def told(self) -> list[Told]:
        """Every trial as Optuna would be told of it."""
        return [self._told(trial) for trial in self.trials]

    @staticmethod
    def _running(trial: Trial) -> Told:
        return Told(trial.params, "running", attrs=trial.attrs)

    # -- outcomes --------------------------------------------------------------------------------

    def outcome(self, trial: Trial) -> Outcome:
        """How a trial stands, from the cells that have ended."""
        if trial.number not in self._outcomes:
            found = self._outcome(trial)
            if found.state == "running":
                return found
            self._outcomes[trial.number] = found
        return self._outcomes[trial.number]

    def _outcome(self, trial: Trial) -> Outcome:
        if trial.row is None:
            dear = trial.refused.startswith(INFEASIBLE)
            return Outcome("pruned" if dear else "fail", reason=trial.refused)
        rounds: list[tuple[float, ...]] = []
        means: list[float] = []
        for index in range(self.spec.tuning_seeds):
            ended = [self.ended(row) for row in self.planner.round(trial.row, index)]
            known = [end for end in ended if end is not None]
            bad = next((end for end in known if end.status != "ok"), None)
            if bad is not None:
                state: State = "pruned" if bad.status in HOPELESS else "fail"
                return Outcome(state, (), tuple(means), f"{bad.status}: {bad.reason}")
            if len(known) < len(ended):
                return Outcome("running", (), tuple(means))
            rounds.append(_mean([end.values for end in known]))
            if not all(map(math.isfinite, rounds[-1])):
                return Outcome("pruned", (), tuple(means), "an objective is not finite")
            means.append(_mean(rounds)[0])
            if index + 1 < self.spec.tuning_seeds and self._hopeless(trial, means):
                return Outcome("pruned", (), tuple(means), f"{PRUNED} {index + 1} seeds")
        return Outcome("complete", _mean(rounds), tuple(means))

    def _hopeless(self, trial: Trial, means: list[float]) -> bool:
        """Whether successive halving stops a trial; it looks at what its proposal had seen."""
        rule, came = self.pruner, len(means)
        if rule is None or trial.number == 0 or not _is_power(came, rule.reduction):
            return False
        earlier = [self.outcome(t).means for t in self.trials[: trial.seen]]
        rivals = [m[came - 1] for m in earlier if len(m) >= came]
        better = sum(self.rank(r) < self.rank(means[-1]) for r in rivals)
        return len(rivals) >= rule.grace and better >= (len(rivals) + 1) / rule.reduction

    def rank(self, value: float) -> float:
        """The first objective turned so that lower is better."""
        return -value if self.directions[0] == "maximize" else value

    def ended(self, row: Planned) -> Ended | None:
        """How a row's cell ended, here or in an earlier driver; a failed fit fails its rows."""
        fit = None if row.fit is None else self._cell(row.fit.cell)
        if fit is not None and fit.status != "ok":
            return replace(fit, reason=f"its fit: {fit.reason}", cost=0.0)
        return self._cell(row.cell)

    def _cell(self, cell: Cell) -> Ended | None:
        if cell.id not in self._ended:
            stored = self.store.last(cell.id)
            if stored is None or str(stored.result["reason"]).startswith("WorkerLost"):
                return None
            rows = self.store.metrics(cell.id, stored.attempt).values()
            self.ended_with(cell, stored.result, list(rows))
        return self._ended[cell.id]

    def ended_with(self, cell: Cell, result: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
        """Remember how a cell ended."""
        found = {row["metric"]: row["value"] for row in metrics}
        if cell.n:
            found[SECONDS] = result["work"].get("seconds", math.nan) / cell.n
        read = [found.get(name) for name in self.spec.objectives]
        values = tuple(math.nan if value is None else float(value) for value in read)
        cost = result["costs"].get(self.spec.limit.unit)
        total = None if cost is None else cost * max(1, cell.n)
        self._ended[cell.id] = Ended(result["status"], result["reason"], values, total)

    # -- work ------------------------------------------------------------------------------------

    def _costs(self, trial: Trial, rounds: Iterable[int]) -> dict[str, float]:
        """Cost by cell and fit: as measured, or as planned where that is not known."""
        costs: dict[str, float] = {}
        for row in (r for i in rounds if trial.row for r in self.planner.round(trial.row, i)):
            costs[row.id] = _known(self.ended(row), self.planner.cost(row))
            if row.fit is not None:
                costs[row.fit.id] = _known(self._cell(row.fit.cell), row.fit.cost)
        return costs

    def _rounds(self, trial: Trial) -> range:
        """The rounds that a trial ran, or will run if it goes on to the end."""
        found, seeds = self.outcome(trial), self.spec.tuning_seeds
        if trial.row is None or found.state in ("running", "complete"):
            return range(seeds)
        failed = not found.reason.startswith(PRUNED)
        return range(len(found.means) + failed)

    def spent(self, trials: Iterable[Trial] | None = None) -> float:
        """Work of trials (default: all), planned where it is to come, every cell once."""
        return sum(self._bill(self.trials if trials is None else trials).values())

    def _bill(self, trials: Iterable[Trial]) -> dict[str, float]:
        """Cost by cell and fit of trials."""
        total: dict[str, float] = {}
        for trial in trials:
            if trial.number not in self._bills:
                costs = self._costs(trial, self._rounds(trial))
                if self.outcome(trial).state == "running":
                    total |= costs
                    continue
                self._bills[trial.number] = costs
            total |= self._bills[trial.number]
        return total

    @property
    def work(self) -> float:
        """All tuning work so far, re-scoring included, which samples from fits paid for already."""
        total = self._bill(self.trials)
        for trial, index in self.finals if self.closed else ():
            total |= self._costs(trial, [index])
        return sum(total.values())

    # -- what to run -----------------------------------------------------------------------------

    def next(self, busy: set[str]) -> tuple[Cell, Job] | None:
        """The next cell to run besides the `busy` ones; None if one must wait, or at the end."""
        while True:
            for trial in self.trials:
                if self.outcome(trial).state == "running":
                    found = self._open(trial, range(self.spec.tuning_seeds), busy)
                    if found is not None:
                        return found
            if self.closed or not self._extend():
                break
        for trial, index in self.finals if self.closed else ():
            found = self._open(trial, range(index, index + 1), busy)
            if found is not None:
                return found
        return None

    def _extend(self) -> bool:
        """Add a trial, or close the study; False if neither can be decided yet."""
        k = len(self.trials)
        running = [t for t in self.trials if self.outcome(t).state == "running"]
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

    def _open(self, trial: Trial, indices: range, busy: set[str]) -> tuple[Cell, Job] | None:
        """A cell of the first round that is not complete."""
        assert trial.row is not None
        for index in indices:
            rows = self.planner.round(trial.row, index)
            waiting = [row for row in rows if self.ended(row) is None]
            jobs = (self._job(row, busy) for row in waiting)
            found = next((job for job in jobs if job is not None), None)
            if found is not None or waiting:
                return found
        return None

    def _job(self, row: Planned, busy: set[str]) -> tuple[Cell, Job] | None:
        fitted = None
        if row.fit is not None:
            if self._cell(row.fit.cell) is None:
                return None if row.fit.id in busy else self._ready(row.fit.cell, row, [], None)
            stored = self.store.last(row.fit.id)
            assert stored is not None
            fitted = self.store.fitted(row.fit.id, stored.attempt)
        if row.id in busy:
            return None
        measured = {"reward", *self.spec.objectives}
        metrics = [m for m in wanted_metrics(row.cell.task) if m in measured]
        return self._ready(row.cell, row, metrics, fitted)

    @staticmethod
    def _ready(
        cell: Cell, row: Planned, metrics: list[str], fitted: bytes | None
    ) -> tuple[Cell, Job]:
        assert row.budget is not None
        job = Job(cell.id, cell.to_json(), asdict(row.budget), metrics, cell.threads, fitted)
        return cell, job

    # -- selection -------------------------------------------------------------------------------

    @cached_property
    def finals(self) -> list[tuple[Trial, int]]:
        """Rounds that re-score the leaders in turn until the tuning work is used."""
        leaders, rest = self.leaders, self.total - self.spent()
        rounds: list[tuple[Trial, int]] = []
        while leaders:
            index, place = divmod(len(rounds), len(leaders))
            trial = leaders[place]
            assert trial.row is not None
            cost = self.planner.cost(trial.row) * len(self.planner.conditions)
            if rest < cost / 2 or cost <= 0:
                break
            rounds.append((trial, self.spec.tuning_seeds + index))
            rest -= cost
        return rounds

    @cached_property
    def leaders(self) -> list[Trial]:
        """The complete trials with the best first objective, of different configurations."""
        done = [t for t in self.trials if self.outcome(t).state == "complete"]
        ordered = sorted(done, key=lambda t: (self.rank(self.outcome(t).values[0]), t.number))
        unique = {t.row.id: t for t in reversed(ordered) if t.row is not None}
        return [t for t in ordered if t.row is not None and unique[t.row.id] is t][:FINALISTS]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return self.closed and all(
            self.ended(row) is not None
            for trial, index in self.finals
            if trial.row is not None
            for row in self.planner.round(trial.row, index)
        )

    def score(self, trial: Trial) -> tuple[float, ...]:
        """The objectives over all seeds that every leader was scored on; NaN if one failed."""
        seeds = self.spec.tuning_seeds + len(self.finals) // max(1, len(self.leaders))
        if trial not in self.leaders or trial.row is None:
            return self.outcome(trial).values
        rounds = [self.planner.round(trial.row, index) for index in range(seeds)]
        ends = [end for rows in rounds for row in rows if (end := self.ended(row)) is not None]
        return _mean([e.values if e.status == "ok" else (math.nan,) for e in ends])

    @property
    def best(self) -> Trial | None:
        """The leader with the best score; None if no trial completed."""
        scored = [(t, self.score(t)) for t in self.leaders]
        sound = [(self.rank(s[0]), t.number, t) for t, s in scored if all(map(math.isfinite, s))]
        return min(sound, default=(0.0, 0, None), key=lambda s: s[:2])[2]


def _mean(rows: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(sum(column) / len(rows) for column in zip(*rows, strict=False))


def _known(end: Ended | None, planned: float) -> float:
    return planned if end is None or end.cost is None else end.cost


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
