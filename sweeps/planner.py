"""Planning trials: ordinary rows of a plan, on tuning seeds and tuning conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.core import plugins
from bench.core.cells import Planned, plain_values
from bench.core.methods import FineTuning, Method
from bench.core.params import UserError, format_name, parse_name
from bench.core.units import DEFAULT, UNITS
from bench.plan.binding import Bound, bind, lacking
from bench.plan.expand import expand
from bench.plan.matching import bounds
from bench.plan.prediction import fit_work, sample_work
from bench.plan.questions import MatchingQuestion
from bench.plan.resources import unshared
from bench.plan.suite import Block, Suite
from bench.runner.pilots import Pilots
from sweeps.space import Axis, Space, Values, axes_of, changes_for
from sweeps.spec import Spec


def extended(label: str, values: Mapping[str, Any]) -> str:
    """A name with more parameters, its own kept as they were written."""
    if not values:
        return label
    added = format_name("", values).removeprefix(":")
    return f"{label},{added}" if ":" in label else f"{label}:{added}"


def reseeded(row: Planned, seed: int, condition: Any) -> Planned:
    """The row on another seed and condition, and so is its fit; matching depends on neither."""
    cell = replace(row.cell, seed=seed, condition=condition)
    if row.fit is None:
        return replace(row, cell=cell)
    fit = replace(row.fit, cell=replace(row.fit.cell, condition=condition))
    return replace(row, cell=replace(cell, fit=fit.id), fit=fit)


@dataclass(frozen=True)
class Planner:
    """Plans one method of a sweep."""

    spec: Spec
    label: str
    pilots: Pilots

    @cached_property
    def method(self) -> Method[Any]:
        """The method as named."""
        name, given = parse_name(self.label)
        found: Method[Any] = plugins.load("methods", name).create(**given)
        return found

    @cached_property
    def bound(self) -> Bound:
        return bind(self.spec.task, self.spec.reward)

    @cached_property
    def conditions(self) -> list[Any]:
        """The conditions to tune on."""
        return list(self.bound.task.conditions("tune"))

    @cached_property
    def default(self) -> Planned:
        """The configuration that an untuned comparison would run."""
        return self.row({})

    def row(self, values: Values) -> Planned:
        """The row of a trial, matched to the budget; of the first seed and condition.

        A fit has a seed of its own, which is kept apart from that of reports as well.
        """
        own = {f.name for f in dataclasses.fields(self.method.Params)}
        seeded = {"fit_seed": self.spec.tuning_seed(0)} if "fit_seed" in own else {}
        block = Block(
            tasks=[self.spec.task],
            rewards=[self.spec.reward],
            methods=[extended(self.label, values | seeded)],
            budgets=[self.spec.budget],
            seeds=[self.spec.tuning_seed(0)],
            n=self.spec.n,
            batch=self.spec.batch,
            threads=self.spec.threads,
            seconds=self.spec.seconds,
            device=self.spec.device,
            dtype=self.spec.dtype,
            resources=unshared(self.spec.resources),
        )
        first = expand(Suite(name="sweep", blocks=[block]), self.pilots)[0]
        return reseeded(first, first.cell.seed, self.conditions[0])

    def round(self, row: Planned, index: int) -> list[Planned]:
        """The row on the index-th tuning seed, once per condition."""
        seed = self.spec.tuning_seed(index)
        return [reseeded(row, seed, condition) for condition in self.conditions]

    def cost(self, row: Planned) -> float:
        """What the row is planned to cost in the budget's unit, without its fit."""
        return row.expected * row.cell.n

    # -- the space -------------------------------------------------------------------------------

    @cached_property
    def space(self) -> Space:
        """The axes to tune; one of the parameters that buy compute is left to matching, and all of
        those that buy a longer fit.

        Raises UserError if the method cannot run here.
        """
        name, given = parse_name(self.label)
        fitted = self.method.fit_effort if isinstance(self.method, FineTuning) else ()
        if isinstance(self.method, FineTuning) and self.spec.limit.fit_budget is None:
            raise UserError(
                f"a sweep of {self.label} needs a budget for the fit, so that tuning cannot buy "
                f"compute: -b {self.spec.budget}:fit=..."
            )
        if self.default.status != "pending":
            raise UserError(f"{self.label} cannot be swept here: {self.default.reason}")
        changes = changes_for(name, self.spec.space, self.method.Params)
        params = self.method.with_params(**self.default.matched).params
        axes = [
            axis if changes.get(axis.name) else self._runnable(axis)
            for axis in axes_of(self.label, params, given, changes)
        ]
        free = [e for e in self.method.effort if e not in given]
        asked = {e for e in free if changes.get(e) is not None}
        if free and asked == set(free):
            raise UserError(
                f"tuning {' and '.join(free)} of {self.label} together would buy compute: leave "
                "one of them to matching"
            )
        left = self._finest([e for e in free if e not in asked])
        kept = [self._afforded(axis) for axis in axes if axis.name not in (left, *fitted)]
        return Space(tuple(axis for axis in kept if axis.open))

    def _runnable(self, axis: Axis) -> Axis:
        """The axis without the choices that are bound to fail here and would eat trials."""

        def runs(choice: Any) -> bool:
            if choice == axis.default:
                return True
            method, spec = self.method.with_params(**{axis.name: choice}), self.bound.spec
            return method.searchable(spec) and lacking(method, spec, self.bound.task) is None

        return replace(axis, choices=tuple(filter(runs, axis.choices)))

    def _finest(self, names: Sequence[str]) -> str | None:
        """The effort parameter whose next step costs least: it uses a budget best."""
        method = self.method.with_params(**self.default.matched)

        def step(name: str) -> float:
            more = method.with_params(**{name: int(getattr(method.params, name)) + 1})
            return sample_work(more, self.bound.spec).cost(DEFAULT)

        return min(reversed(names), key=step, default=None)

    def _afforded(self, axis: Axis) -> Axis:
        """The axis, cut where the budget ends with the effort of the others least."""
        if axis.kind != "int":
            return axis
        if axis.name not in self.method.effort:
            return replace(axis, high=self._most(axis))
        _, given = parse_name(self.label)
        least = {e: given.get(e, bounds(self.method, e)[0]) for e in self.method.effort}
        least.pop(axis.name)
        question = MatchingQuestion(
            self.default.cell,
            self.method.with_params(**least),
            self.bound.spec,
            self.spec.limit,
            {**given, **least},
        )
        unit = self.spec.limit.unit
        if UNITS[unit].piloted:
            found = self.pilots.match(question)
        else:
            found = question.match(lambda work: work.cost(unit))
        high = max(axis.default, min(axis.high, found.values.get(axis.name, axis.high)))
        return replace(axis, low=max(axis.low, self.method.least(axis.name)), high=high)

    def _most(self, axis: Axis) -> float:
        """The largest value that fits with the least effort; only known where rows are counted."""
        unit, limit = self.spec.limit.unit, self.spec.limit.per_sample(self.spec.n)
        _, given = parse_name(self.label)
        free = [e for e in self.method.effort if e not in given]
        least = self.method.with_params(**{e: bounds(self.method, e)[0] for e in free})

        def fits(value: int) -> bool:
            method = least.with_params(**{axis.name: value})
            return sample_work(method, self.bound.spec).cost(unit) <= limit and self._fit_fits(
                method
            )

        low, high = int(axis.default), int(axis.high)
        if UNITS[unit].piloted or fits(high):
            return high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _fit_fits(self, method: Method[Any]) -> bool:
        """Whether the shortest fit of a method is within the budget for it."""
        limit = self.spec.limit.fit_budget
        if limit is None or not isinstance(method, FineTuning):
            return True
        least = method.with_params(**{e: bounds(method, e)[0] for e in method.fit_effort})
        assert isinstance(least, FineTuning)
        return fit_work(least, self.bound.spec).cost(self.spec.limit.unit) <= limit

    @cached_property
    def fixed(self) -> Values:
        """All parameters of the default configuration."""
        fit = {} if self.default.fit is None else self.default.fit.matched
        return {**plain_values(self.method.params), **fit, **self.default.matched}
