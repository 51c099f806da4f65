"""Matching: the parameters with which a method spends a budget.

A method declares in `effort` the parameters that buy compute, and in `split` how they share a
budget: by the largest scale that fits, or else by their defaults.  The first free one is then
raised as far as the budget allows with the others where they are; if that uses less than 90 %, the
others move within their declared range, to the nearest setting that uses more.  Parameters that the
user gave are never touched.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.methods import FineTuning, Method
from bench.core.params import range_of
from bench.core.timing import UnstatedSteps
from bench.core.values import ProblemSpec
from bench.core.work import Work
from bench.plan.prediction import fit_work, sample_work

GOOD_USE = 0.9
"""Use of a budget below this is marked `underused`."""

ALTERNATIVES = 3
"""Other good settings that are shown beside the chosen one."""

CANDIDATES = 400
"""Settings of the secondary effort parameters that are tried at most."""

Cost = Callable[[Work], float]


@dataclass(frozen=True)
class Match:
    """The effort parameters found, their cost per sample, and what else would have fitted."""

    values: dict[str, Any]
    cost: float
    use: float
    feasible: bool
    needed: float
    alternatives: tuple[tuple[dict[str, Any], float], ...] = ()

    @property
    def underused(self) -> bool:
        return self.feasible and self.use < GOOD_USE


def match(
    method: Method[Any], spec: ProblemSpec, budget: float, cost: Cost, pinned: Mapping[str, Any]
) -> Match:
    """Effort parameters of `method` for `budget` (per sample, in the unit of `cost`)."""
    free = [name for name in method.effort if name not in pinned]

    def spent(values: dict[str, Any]) -> float:
        return cost(sample_work(method.with_params(**values), spec))

    return _match(method, free, spent, budget)


def match_fit(
    method: FineTuning[Any], spec: ProblemSpec, budget: float, cost: Cost, pinned: Mapping[str, Any]
) -> Match:
    """Fit-effort parameters of a fine-tuning method for the `budget` of the whole fit."""
    free = [name for name in method.fit_effort if name not in pinned]

    def spent(values: dict[str, Any]) -> float:
        chosen = method.with_params(**values)
        assert isinstance(chosen, FineTuning)
        return cost(fit_work(chosen, spec))

    return _match(method, free, spent, budget)


def shortest(method: FineTuning[Any]) -> FineTuning[Any]:
    """The same method with the least fit that matching may choose."""
    least = method.with_params(**{k: bounds(method, k)[0] for k in method.fit_effort})
    assert isinstance(least, FineTuning)
    return least


def _match(
    method: Method[Any],
    free: list[str],
    spent: Callable[[dict[str, Any]], float],
    budget: float,
) -> Match:
    def tried(values: dict[str, Any]) -> float:
        try:
            return spent(values)
        except UnstatedSteps:  # the flow has no schedule of so many steps
            return math.inf

    if not free:
        own = spent({})
        return Match({}, own, _use(own, budget), own <= budget, own)
    least = {name: bounds(method, name)[0] for name in free}
    needed = spent(least)
    if needed > budget * (1 + 1e-9):
        return Match(least, needed, _use(needed, budget), False, needed)
    return _best(_shared_out(method, free, tried, budget), free, tried, budget, least)


SCALES = (1e-6, 1e9)
"""Least and greatest scale of a split."""


def _shared_out(
    method: Method[Any], free: list[str], spent: Callable[[dict[str, Any]], float], budget: float
) -> Method[Any]:
    """The method at the largest scale of its split that fits, by bisection; itself if none does."""
    growths = {name: g for name, g in method.growths().items() if name in free}
    if not growths:
        return method

    def at(scale: float) -> dict[str, Any]:
        return {name: g.value(scale, *bounds(method, name)) for name, g in growths.items()}

    low, high = map(math.log, SCALES)
    if spent(at(math.exp(low))) > budget:
        return method
    for _ in range(60):
        middle = (low + high) / 2
        fits = spent(at(math.exp(middle))) <= budget * (1 + 1e-9)
        low, high = (middle, high) if fits else (low, middle)
    return method.with_params(**at(math.exp(low)))


def _use(cost: float, budget: float) -> float:
    """Use of a budget; a fit may have left none of it to sampling."""
    return cost / budget if budget > 0 else float("inf")


def _best(
    method: Method[Any],
    free: list[str],
    spent: Callable[[dict[str, Any]], float],
    budget: float,
    least: dict[str, Any],
) -> Match:
    """Try secondary settings from the default outwards; keep the first of good use, or the best."""
    needed = spent(least)
    found: list[tuple[dict[str, Any], float]] = []
    for others in _outwards(method, free[1:]):
        value = _largest(method, free[0], others, spent, budget)
        if value is None:
            continue
        values = {free[0]: value, **others}
        found.append((values, spent(values) / budget))
        if sum(use >= GOOD_USE for _, use in found) > ALTERNATIVES:
            break
    # The least setting fits, but may lie beyond the settings that were tried.
    found = found or [(least, needed / budget)]
    chosen = next((f for f in found if f[1] >= GOOD_USE), None) or max(found, key=lambda f: f[1])
    others_ = tuple(f for f in found if f[0] != chosen[0] and f[1] >= GOOD_USE)
    return Match(chosen[0], chosen[1] * budget, chosen[1], True, needed, others_)


def bounds(method: Method[Any], name: str) -> tuple[int, int]:
    """Least and greatest value that matching may choose for an effort parameter."""
    declared = range_of(method.Params, name)
    if declared.chosen_from is None or declared.high is None:
        raise ValueError(f"{type(method).__name__}: effort parameter '{name}' declares no range")
    return max(int(declared.chosen_from), method.least(name)), int(declared.high)


def _largest(
    method: Method[Any],
    name: str,
    others: dict[str, Any],
    spent: Callable[[dict[str, Any]], float],
    budget: float,
) -> int | None:
    """The largest value of `name` that fits, by bisection: work grows with every effort."""
    low, high = bounds(method, name)

    def fits(value: int) -> bool:
        return spent({name: value, **others}) <= budget * (1 + 1e-9)

    if not fits(low):
        return None
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _outwards(method: Method[Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """Settings of the secondary parameters, nearest to their values first, on a log scale."""
    axes = [sorted(_axis(method, name), key=lambda pair: pair[1]) for name in names]
    settings = sorted(itertools.product(*axes), key=lambda s: sum(distance for _, distance in s))
    for setting in settings[:CANDIDATES]:
        yield {name: value for name, (value, _) in zip(names, setting, strict=True)}


def _axis(method: Method[Any], name: str) -> list[tuple[int, float]]:
    """(value, distance from the current value) for every candidate of one parameter."""
    low, high = bounds(method, name)
    start = min(max(int(getattr(method.params, name)), low), high)
    near = range(max(low, start // 4), min(high, 4 * start) + 1)
    values = {low, high, *near}
    return [(v, max(v, start) / min(v, start) - 1) for v in values]
