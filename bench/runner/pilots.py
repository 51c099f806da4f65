"""Pilots: what a row of each callable costs in FLOPs or seconds, measured before matching.

Rows are known from parameters alone; FLOPs and seconds are not.  A pilot runs the method itself,
once at its least effort for FLOPs per row, and for seconds again at the matched effort until the
prediction holds, because loops, noise and estimators take time that no row shows.
What a pilot found is kept with the run, so that the same command finds the same cells.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bench.core.contracts import Method, ProblemSpec
from bench.core.matching import Match, bounds, match
from bench.core.metering import Meter
from bench.core.work import Budget, Work
from bench.runner.cells import Cell, canonical, digest
from bench.runner.execute import make_problem, sample_in_batches, stage

CLOSE = 0.02
"""Relative error of the seconds' prediction at which piloting stops."""

MOST_PILOTS = 6
REPEATS = 3

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


def _seconds(cell: Cell, method: Method[Any]) -> float:
    """Seconds per sample: the median of a few pilots, since machines are noisy."""
    return statistics.median(pilot(cell, method, cell.n).work.seconds for _ in range(REPEATS))


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

    def match(
        self,
        cell: Cell,
        method: Method[Any],
        spec: ProblemSpec,
        budget: Budget,
        given: dict[str, Any],
    ) -> Match:
        """As `bench.core.matching.match`, for a budget in FLOPs or seconds."""
        key = self._key(cell, budget, given)
        if key not in self._known:
            found = self._search(cell, method, spec, budget, given)
            self._known[key] = {**asdict(found), "alternatives": []}
            self._write(canonical(self._known).encode())
        kept = dict(self._known[key])
        kept["alternatives"] = ()
        return Match(**kept)

    @staticmethod
    def _key(cell: Cell, budget: Budget, given: dict[str, Any]) -> str:
        """What a pilot depends on: the cell without effort and seed, the budget, the machine."""
        parts = asdict(replace(cell, seed=0, method_params=given))
        return digest([parts, str(budget), platform.node(), platform.processor()])

    def _search(
        self,
        cell: Cell,
        method: Method[Any],
        spec: ProblemSpec,
        budget: Budget,
        given: dict[str, Any],
    ) -> Match:
        free = [name for name in method.effort if name not in given]
        least = method.with_params(**{name: bounds(method, name)[0] for name in free})
        pilot(cell, least, min(cell.n, WARM_ROWS))
        seen = pilot(cell, least, cell.n)
        limit = budget.per_sample(cell.n)
        if budget.unit == "flops":
            rates = seen.flop_rates
            return match(method, spec, limit, lambda work: work.priced(rates), given)
        return self._by_seconds(cell, method, spec, limit, given, seen, least)

    def _by_seconds(
        self,
        cell: Cell,
        method: Method[Any],
        spec: ProblemSpec,
        limit: float,
        given: dict[str, Any],
        seen: Measured,
        least: Method[Any],
    ) -> Match:
        """Match, time the match, correct the seconds per unit of cost, until they agree."""

        def cost(work: Work) -> float:
            return work.priced(seen.flop_rates) or work.cost("paper-nfe")

        def at(rate: float) -> Match:
            return match(method, spec, limit, lambda work: rate * cost(work), given)

        rate = _seconds(cell, least) / cost(least.work(spec))
        found = at(rate)
        for _ in range(MOST_PILOTS):
            if not found.feasible:
                break
            trial = method.with_params(**found.values)
            ratio = _seconds(cell, trial) / found.cost
            rate *= ratio
            previous, found = found, at(rate)
            if abs(ratio - 1) < CLOSE or found.values == previous.values:
                break
        return found
