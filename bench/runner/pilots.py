"""Pilots: what a row of each callable costs in FLOPs or seconds, measured before matching.

Rows are known from parameters alone; FLOPs and seconds are not.  A pilot runs the method itself,
once at its least effort for FLOPs per row, and for seconds again at the matched effort until the
prediction holds, because loops, noise and estimators take time that no row shows.  Seconds are
those at the pace that the machine had at the run's first pilot (`bench.runner.pace`).
What a pilot found is kept with the run, so that the same command finds the same cells.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch

from bench.core.contracts import FineTuning, Method
from bench.core.matching import Cost, Match, bounds, shortest
from bench.core.metering import Meter
from bench.core.work import KINDS, ROLES, Kind, Role, Work, row_weight
from bench.runner.cells import Cell, canonical, digest
from bench.runner.execute import sample_in_batches
from bench.runner.pace import Pace
from bench.runner.planning import Question, Rates, fit_cell
from bench.runner.staging import make_fit_problem, make_problem, stage

CLOSE = 0.02
"""Relative error of the seconds' prediction at which piloting stops."""

NEAR = 0.2
"""Relative error beyond which earlier readings say nothing about the effort that is now matched."""

ENOUGH = 10.0
"""Seconds of piloting before which it does not stop: machines are slow and fast for a while."""

MOST_PILOTS = 6
"""Readings near the match that are taken at most."""

WARM_ROWS = 8
"""Samples of the run that loads weights and fills caches before anything is timed."""


@dataclass(frozen=True)
class Measured:
    """Work of one pilot, per returned sample, and FLOPs per row by role and kind."""

    work: Work
    flop_rates: dict[Any, float]


def pilot(cell: Cell, method: Method[Any], n: int) -> Measured:
    """Run `method` for n samples of the cell's problem and read the meter."""
    torch.set_num_threads(cell.threads)
    scene = replace(stage(cell), method=method)
    meter = Meter(count_flops=True)
    trial = replace(cell, n=n, method_params=asdict(method.params))
    sample_in_batches(method, make_problem(trial, scene, meter, range(n)), trial)
    return Measured(meter.work() * (1 / n), meter.flop_rates())


def pilot_fit(cell: Cell, method: FineTuning[Any]) -> Measured:
    """The shortest fit of `method` that matching may choose, and what its meter read in all.

    It runs twice: the first call of everything takes time that a whole fit spends once.
    """
    torch.set_num_threads(cell.threads)
    least = shortest(method)
    trial = fit_cell(cell, least)
    scene = stage(trial)
    for _ in range(2):
        meter = Meter(count_flops=True)
        least.fit(make_fit_problem(trial, scene, meter))
    return Measured(meter.work(), meter.flop_rates())


def _seconds(cell: Cell, method: Method[Any], pace: Pace) -> float:
    """Seconds per sample, at the run's pace."""
    return pace.seconds(lambda: pilot(cell, method, cell.n).work.seconds)


class Pilots:
    """Matches budgets in FLOPs and seconds, remembering what it found.

    Args:
        read: returns the remembered matches as JSON bytes, or None.
        write: stores them.
    """

    def __init__(
        self,
        read: Callable[[], bytes | None] = lambda: None,
        write: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        kept = read()
        self._known: dict[str, dict[str, Any]] = json.loads(kept) if kept else {}
        self._write = write
        self._paces: dict[str, Pace] = {}

    def match(self, question: Question) -> Match:
        """As `bench.core.matching.match`, for a budget in FLOPs or seconds."""
        key = self._key(question)
        if key not in self._known:
            found = _search(question, lambda: self._pace(question.cell))
            self._keep(key, {**asdict(found), "alternatives": []})
        return Match(**{**self._known[key], "alternatives": ()})

    def fit_rates(self, question: Question) -> Rates:
        """Cost of a row of the fit: FLOPs as counted, or seconds in proportion to FLOPs or rows."""
        key = self._key(question) + "/fit"
        if key not in self._known:
            assert isinstance(question.method, FineTuning)
            found = pilot_fit(question.cell, question.method)
            rates = {f"{role} {kind}": v for (role, kind), v in _rates(question, found).items()}
            self._keep(key, rates)
        return {_role_kind(name): value for name, value in self._known[key].items()}

    def _pace(self, cell: Cell) -> Pace:
        """The pace of a task, a batch size and a machine, which all their pilots share."""
        parts = [cell.task, cell.task_params, cell.n, cell.batch, cell.threads]
        key = digest([*parts, platform.node(), platform.processor()]) + "/pace"
        if key not in self._paces:
            self._paces[key] = Pace(cell, self._known.get(key, {}).get("seconds"))
            self._keep(key, {"seconds": self._paces[key].length})
        return self._paces[key]

    def _keep(self, key: str, found: dict[str, Any]) -> None:
        self._known[key] = found
        self._write(canonical(self._known).encode())

    @staticmethod
    def _key(question: Question) -> str:
        """What a pilot depends on: the cell without effort and seed, the budget, the machine.

        Not on the condition either: of all prompts, the first is piloted.
        """
        cell = replace(question.cell, seed=0, condition=None, method_params=question.given)
        own = [question.fit_cost] if question.fit_cost else []
        return digest(
            [asdict(cell), str(question.budget), platform.node(), platform.processor(), *own]
        )


def _rates(question: Question, found: Measured) -> Rates:
    rates: Rates = found.flop_rates
    if question.budget.unit == "flops":
        return rates
    if not found.work.priced(rates):
        rates = {(r, k): row_weight("paper-nfe", r, k) for r in ROLES for k in KINDS}
    each = found.work.seconds / found.work.priced(rates)
    return {key: each * value for key, value in rates.items()}


def _role_kind(name: str) -> tuple[Role, Kind]:
    role, kind = name.split()
    return cast(Role, role), cast(Kind, kind)


def _search(question: Question, pace: Callable[[], Pace]) -> Match:
    cell, method = question.cell, question.method
    free = [name for name in method.effort if name not in question.given]
    least = method.with_params(**{name: bounds(method, name)[0] for name in free})
    pilot(cell, least, min(cell.n, WARM_ROWS))
    rates = pilot(cell, least, cell.n).flop_rates
    if question.budget.unit == "flops":
        return question.match(lambda work: work.priced(rates))

    def cost(work: Work) -> float:
        return work.priced(rates) or work.cost("paper-nfe")

    return _by_seconds(question, least, cost, pace())


def _by_seconds(question: Question, least: Method[Any], cost: Cost, pace: Pace) -> Match:
    """Match, time the match, correct the seconds per unit of cost, until they agree.

    Readings near the match are kept together: their median is steadier than the last of them.
    """
    cell, spec, method = question.cell, question.spec, question.method

    def rate_of(trial: Method[Any]) -> float:
        return _seconds(cell, trial, pace) / cost(trial.work(spec))

    def at(rate: float) -> Match:
        return question.match(lambda work: rate * cost(work))

    rate, readings, started = rate_of(least), list[float](), time.perf_counter()
    found = at(rate)
    for _ in range(MOST_PILOTS):
        if not found.feasible:
            break
        reading = rate_of(method.with_params(**found.values))
        off = abs(reading / rate - 1)
        readings = [reading] if off > NEAR else [*readings, reading]
        rate = statistics.median(readings)
        found = at(rate)
        if off < CLOSE and time.perf_counter() - started > ENOUGH:
            break
    return found
