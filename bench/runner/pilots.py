"""Pilots: what a row of each callable costs in FLOPs or seconds, measured before matching.

Rows are known from parameters alone; FLOPs and seconds are not.  A pilot runs the method itself,
once at its least effort for FLOPs per row, and for seconds again at the matched effort until the
prediction holds, because loops, noise and estimators take time that no row shows.  Machines are now
faster, now slower, so that the methods of one budget are in the end timed in turns, minute by
minute under the same conditions, and matched once more.
What a pilot found is kept with the run, so that the same command finds the same cells.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch

from bench.core.accelerator import device_name
from bench.core.cells import Cell, canonical, digest
from bench.core.metering import Meter, TimeIsUp
from bench.core.methods import FineTuning, Method
from bench.core.units import DEFAULT, UNITS, Kind, Role
from bench.core.work import Work
from bench.plan.fits import fit_cell
from bench.plan.matching import Cost, Match, bounds, shortest
from bench.plan.prediction import sample_work
from bench.plan.questions import MatchingQuestion, RowPrices
from bench.runner import memory
from bench.runner.cell import WARM_ROWS, sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.isolation import isolated
from bench.runner.problems import make_fit_problem
from bench.runner.sampling import Sampling

CLOSE = 0.05
"""Relative error of the seconds' prediction at which piloting stops."""

MOST_PILOTS = 6
"""Corrections of one method by itself at the most."""

REPEATS = 3
"""Pilots whose median is one reading of a method by itself."""

ROUNDS = 7
"""Pilots of every method when all of a budget are timed in turns."""

MOST_TURNS = 2
"""Corrections from rounds at the most."""


@dataclass(frozen=True)
class Measured:
    """Work of one pilot, per returned sample, and FLOPs per row by role and kind."""

    work: Work
    flop_rates: dict[Any, float]


def pilot(cell: Cell, method: Method[Any], n: int) -> Measured:
    """Run `method` for n samples of the cell's problem, under each condition, and read the meter.

    FLOPs per row are the same under all conditions; seconds are what all take together.
    """
    run = _run(cell, method, n, ())
    return Measured(run.work() * (1 / run.cell.total), run.flop_rates())


def begun(cell: Cell, method: Method[Any], n: int, seconds: float) -> Work:
    """What a run for n samples does in its first seconds, and in all if it ends before."""
    return _run(replace(cell, seconds=seconds), method, n, (TimeIsUp,)).work()


def begun_fit(cell: Cell, seconds: float) -> Work:
    """What a fit does in its first seconds, and in all if it ends before."""
    torch.set_num_threads(cell.threads)
    memory.keep_freed()
    trial = replace(cell, seconds=seconds)
    with isolated(f"{cell.id}/pilot"), suppress(TimeIsUp):
        instances, meter = instances_of(trial), Meter(deadline=seconds, count_flops=True)
        assert isinstance(instances.method, FineTuning)
        instances.method.fit(make_fit_problem(trial, instances, meter))
    return meter.work()


def _run(cell: Cell, method: Method[Any], n: int, stopped: tuple[type[Exception], ...]) -> Sampling:
    """The samples of a run, or what there was when it was `stopped`."""
    torch.set_num_threads(cell.threads)
    memory.keep_freed()
    with isolated(f"{cell.id}/pilot"):
        instances = replace(instances_of(cell), method=method)
        trial = replace(cell, n=n, method_params=asdict(method.params))
        sampling = Sampling(trial, instances, None, sample_in_batches, lambda *_: None)
        with suppress(*stopped):
            sampling.samples()
    return sampling


def pilot_fit(cell: Cell, method: FineTuning[Any]) -> Measured:
    """The shortest fit of `method` that matching may choose, and what its meter read in all.

    It runs twice: the first call of everything takes time that a whole fit spends once.
    """
    torch.set_num_threads(cell.threads)
    memory.keep_freed()
    least = shortest(method)
    trial = fit_cell(cell, least)
    with isolated(f"{cell.id}/pilot"):
        instances = instances_of(trial)
        for _ in range(2):
            meter = Meter(count_flops=True)
            least.fit(make_fit_problem(trial, instances, meter))
    return Measured(meter.work(), meter.flop_rates())


def _seconds(cell: Cell, method: Method[Any]) -> float:
    """Seconds per sample of one pilot."""
    return pilot(cell, method, cell.n).work.seconds


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
        self._unsettled: dict[str, Rate] = {}
        self._comparing = False

    def match(self, question: MatchingQuestion) -> Match:
        """As `bench.plan.matching.match`, for a budget in FLOPs or seconds."""
        key = self._key(question)
        if key not in self._known:
            found = _searched(question)
            if isinstance(found, Rate):
                self._unsettled[key] = found
                found = found.match()
            self._keep_match(key, found)
        return Match(**{**self._known[key], "alternatives": ()})

    def fit_rates(self, question: MatchingQuestion) -> RowPrices:
        """Cost of a row of the fit: FLOPs as counted, or seconds in proportion to FLOPs or rows."""
        key = self._key(question) + "/fit"
        if key not in self._known:
            assert isinstance(question.method, FineTuning)
            found = pilot_fit(question.cell, question.method)
            rates = {f"{role} {kind}": v for (role, kind), v in _rates(question, found).items()}
            self._keep(key, rates)
        return {_role_kind(name): value for name, value in self._known[key].items()}

    def begin(self) -> None:
        """What was matched before, as the trials of a sweep are, stays as it is."""
        self._unsettled, self._comparing = {}, True

    def settle(self) -> bool:
        """Time what was newly matched in seconds in turns, by problem and budget; match it again.

        Returns whether any match may have changed.  A method alone has nobody to agree with.
        """
        groups: dict[str, dict[str, Rate]] = {}
        fresh = bool(self._unsettled)
        for key, rate in self._unsettled.items():
            groups.setdefault(rate.question.group, {})[key] = rate
        together = [group for group in groups.values() if len(group) > 1]
        for group in together:
            for key, rate in zip(group, in_turns(list(group.values())), strict=True):
                self._keep_match(key, rate.match())
        self._unsettled, self._comparing = {}, False
        if fresh:
            self._save()
        return bool(together)

    def _keep_match(self, key: str, found: Match) -> None:
        self._keep(key, {**asdict(found), "alternatives": []})

    def _keep(self, key: str, found: dict[str, Any]) -> None:
        self._known[key] = found
        self._save()

    def _save(self) -> None:
        """Write what is known, without what a comparison has yet to settle: it may be killed."""
        open_ones = self._unsettled if self._comparing else {}
        kept = {key: found for key, found in self._known.items() if key not in open_ones}
        self._write(canonical(kept).encode())

    @staticmethod
    def _key(question: MatchingQuestion) -> str:
        """What a pilot depends on: the cell without effort and seed, the budget, the machine.

        Not on the condition either: of all prompts, the first is piloted, or as many as a cell
        holds.
        """
        cell = replace(question.cell, seed=0, condition=None, method_params=question.given)
        own: list[Any] = [question.fit_cost] if question.fit_cost else []
        said = asdict(cell)
        said.pop("resources")
        if many := len(said.pop("conditions")):
            own.append({"conditions": many})
        if (device := said.pop("device")) != "cpu":
            own.append({"device": device_name(device)})
        return digest([said, str(question.budget), platform.node(), platform.processor(), *own])


def _rates(question: MatchingQuestion, found: Measured) -> RowPrices:
    rates: RowPrices = found.flop_rates
    if not UNITS[question.budget.unit].timed:
        return rates
    if not found.work.priced(rates):
        rates = UNITS[DEFAULT].weights or {}
    each = found.work.seconds / found.work.priced(rates)
    return {key: each * value for key, value in rates.items()}


def _role_kind(name: str) -> tuple[Role, Kind]:
    role, kind = name.split()
    return cast(Role, role), cast(Kind, kind)


@dataclass(frozen=True)
class Rate:
    """Seconds per unit of `cost` of a method's work on a question's problem."""

    question: MatchingQuestion
    cost: Cost
    seconds: float

    def match(self) -> Match:
        """What spends the budget at this rate."""
        return self.question.match(lambda work: self.seconds * self.cost(work))

    def corrected(self, found: Match, seconds: float) -> Rate:
        """The rate at which `found` would have been predicted to take `seconds`."""
        return replace(self, seconds=self.seconds * seconds / found.cost)

    def time(self, found: Match) -> float:
        """Seconds per sample of one pilot of a match."""
        return _seconds(self.question.cell, self.question.method.with_params(**found.values))


def _searched(question: MatchingQuestion) -> Match | Rate:
    """The match of a budget in FLOPs, or the rate that decides one in seconds."""
    cell, method = question.cell, question.method
    free = [name for name in method.effort if name not in question.given]
    least = method.with_params(**{name: bounds(method, name)[0] for name in free})
    pilot(cell, least, min(cell.n, WARM_ROWS))
    rates = pilot(cell, least, cell.n).flop_rates
    if not UNITS[question.budget.unit].timed:
        return question.match(lambda work: work.priced(rates))

    def cost(work: Work) -> float:
        return work.priced(rates) or work.cost(DEFAULT)

    rate = _seconds(cell, least) / cost(sample_work(least, question.spec))
    return _alone(Rate(question, cost, rate))


def _alone(rate: Rate) -> Rate:
    """Match, time the match, correct the seconds per unit of cost, until they agree."""
    for _ in range(MOST_PILOTS):
        found = rate.match()
        if not found.feasible:
            break
        taken = statistics.median(rate.time(found) for _ in range(REPEATS))
        rate = rate.corrected(found, taken)
        if abs(taken / found.cost - 1) < CLOSE:
            break
    return rate


def in_turns(rates: list[Rate]) -> list[Rate]:
    """RowPrices corrected by timing all their matches in rounds: a slow minute hits all alike."""
    for _ in range(MOST_TURNS):
        matches = [rate.match() for rate in rates]
        pairs = [(rate, found) for rate, found in zip(rates, matches, strict=True)]
        rounds = [[r.time(m) if m.feasible else m.cost for r, m in pairs] for _ in range(ROUNDS)]
        taken = [statistics.median(own) for own in zip(*rounds, strict=True)]
        rates = [r.corrected(m, t) for (r, m), t in zip(pairs, taken, strict=True)]
        if all(abs(t / m.cost - 1) < CLOSE for m, t in zip(matches, taken, strict=True)):
            break
    return rates
