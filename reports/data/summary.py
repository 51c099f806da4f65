"""Entries: what one method did at one budget on one problem, with its estimates.

Cells that did not end `ok` stay in the entry and are named wherever a number is missing because of
them.  `reports.data.entries` makes the summary of a run.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.core.units import UNITS
from reports.data.number_columns import NumberColumns
from reports.data.statistics import MeanInterval

LEAST_EFFECTIVE = 25.0
"""Samples on which the law's reward must rest: its error is then a fifth of its deviation."""


def slug(text: str) -> str:
    """Text as an id."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True, order=True)
class ProblemKey:
    """A task and a reward with its strength: one law that was asked for."""

    task: str
    reward: str
    strength: float

    @property
    def title(self) -> str:
        """For headings."""
        strength = "" if self.strength == 1 else f", strength {self.strength:g}"
        return f"{self.task} · {self.reward}{strength}"

    @property
    def slug(self) -> str:
        """For anchors and ids."""
        return slug(self.title)


@dataclass(frozen=True)
class MethodInfo:
    """What a method's class declares for its readers (`bench.api.Method` says what each means)."""

    summary: str = ""
    standing: str = "method"
    tag: str = ""
    caveat: str = ""
    push: str = "guidance"
    best_of: str = ""
    colour: str = ""


@dataclass(frozen=True)
class JudgeCredibility:
    """How often people choose as a learned judge does, as published, and where; else ""."""

    accuracy: str = ""
    source: str = ""


@dataclass(frozen=True)
class LawReward:
    """Mean and deviation of the reward under the tilted law.

    effective: how many samples it rests on, the smallest of the conditions, of `drawn` ones.
    exact: from draws of the law itself.
    """

    mean: float
    deviation: float
    effective: float
    drawn: int
    exact: bool

    @property
    def known(self) -> bool:
        """Whether it rests on enough samples, and the reward varies at all."""
        return self.effective >= LEAST_EFFECTIVE and self.deviation > 0

    def excess(self, reward: float) -> float:
        """How far a mean reward lies above the law's, in deviations of the law's reward."""
        return (reward - self.mean) / self.deviation


@dataclass(frozen=True)
class LawSpread:
    """The mean distance between two draws of the tilted law, by reweighted base samples."""

    metric: str
    """The run's metric that is the mean distance between two samples."""
    value: MeanInterval
    effective: float
    """How many samples it rests on, the smallest of the conditions."""

    @property
    def known(self) -> bool:
        """Whether it rests on enough samples."""
        return self.effective >= LEAST_EFFECTIVE and self.value.known


@dataclass(frozen=True)
class Mark:
    """Why a row must not be taken for the best (`marks`): the kind, and the figures."""

    kind: Literal["collapsed", "maximises"]
    text: str


@dataclass(frozen=True, eq=False)
class Entry:
    """All cells (seeds and conditions) of one method at one budget on one problem."""

    problem: ProblemKey
    method: str
    name: str
    budget: str
    cells: pd.DataFrame
    estimates: Mapping[str, MeanInterval]
    about: MethodInfo = MethodInfo()
    credibility: Mapping[str, JudgeCredibility] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    preset: str = ""
    numbers: NumberColumns | None = None
    """The cells' columns as numbers, where they are a part of a large table."""

    @property
    def is_floor(self) -> bool:
        """Whether these are draws of the tilted law itself."""
        return self.about.tag == "floor"

    @property
    def is_untilted(self) -> bool:
        """Whether these are draws of the base model."""
        return self.about.tag == "untilted"

    @property
    def is_closed_form(self) -> bool:
        """Whether the method knows the closed form: it is never marked as best."""
        return self.about.standing == "closed form"

    @property
    def is_baseline(self) -> bool:
        """Whether everybody would compare with it."""
        return self.about.standing == "baseline"

    @property
    def is_contestant(self) -> bool:
        """Whether it is compared with others, rather than an end of the scale."""
        return self.about.standing in ("method", "baseline")

    @cached_property
    def done(self) -> pd.DataFrame:
        """The cells that ended ok."""
        return self.cells if self._ok.all() else self.cells[self._ok]

    @cached_property
    def _ok(self) -> NDArray[np.bool_]:
        return np.asarray(self.cells["status"] == "ok", dtype=bool)

    @cached_property
    def trouble(self) -> str:
        """'2 of 3 cells failed: reason' for what did not end ok; empty if all did."""
        total, parts = len(self.cells), []
        if len(self.done) == total:
            return ""
        rest = self.cells[self.cells["status"] != "ok"]
        for (status, reason), group in rest.groupby(["status", "reason"]):
            count = "" if len(group) == total else f"{len(group)} of {total} cells "
            parts.append(f"{count}{status}" + (f": {reason}" if reason else ""))
        return "; ".join(parts)

    @property
    def status(self) -> str:
        """ok if anything is; else the worst that happened."""
        return "ok" if len(self.done) else str(self.cells["status"].iloc[-1])

    def estimate(self, metric: str) -> MeanInterval:
        """The metric's estimate; without one, a NaN whose note says why."""
        found = self.estimates.get(metric)
        return found or MeanInterval(math.nan, note=self.trouble or "not measured")

    @cached_property
    def _means(self) -> dict[str, float]:
        return {}

    def mean(self, column: str) -> float:
        """Mean of a column over the cells that ended ok."""
        if column not in self._means:
            self._means[column] = _mean(self.floats(column))
        return self._means[column]

    @cached_property
    def _shares(self) -> dict[str, float]:
        return {}

    def per_sample(self, column: str) -> float:
        """A measured total per returned sample, over the cells that ended ok."""
        if column not in self._shares:
            total = float(np.nansum(self.floats(column)))
            self._shares[column] = total / self._samples if self._samples else math.nan
        return self._shares[column]

    def cost(self, unit: str) -> float:
        """Measured compute per returned sample; time is recorded of the cell as a whole."""
        column = UNITS[unit].column
        return self.per_sample(column) if UNITS[unit].timed else self.mean(column)

    @cached_property
    def _samples(self) -> int:
        """Samples returned, over the cells that ended ok."""
        return int(self.floats("n").sum())

    def floats(self, column: str) -> NDArray[np.float64]:
        """A column's numbers, of the cells that ended ok."""
        return self._numbers[column][self._ok]

    @cached_property
    def _numbers(self) -> NumberColumns:
        return self.numbers or NumberColumns(self.cells)

    @cached_property
    def fits(self) -> int:
        """How many fits a condition has at most; 0 for a method that does not fit."""
        named = set(zip(self.done["condition"], self.done["fit"], strict=True))
        counts = Counter(condition for condition, fit in named if fit)
        return max(counts.values(), default=0)

    @property
    def untested_fit(self) -> bool:
        """Whether it has one fit, so that nothing is known about another one."""
        return any(found.source == "one fit" for found in self.estimates.values())

    @property
    def fit_label(self) -> str:
        """'one fit' or '3 fits'; empty for a method that does not fit."""
        return {0: "", 1: "one fit"}.get(self.fits, f"{self.fits} fits")

    @cached_property
    def underused(self) -> bool:
        """Whether matching left budget unused; an exact draw has nothing to spend it on."""
        return not self.is_floor and bool(self.done["underused"].any())


@dataclass(frozen=True)
class MetricInfo:
    """How a metric was measured, and what it declares (`bench.api.Metric` says what each means)."""

    direction: str
    implementation: str
    version: str
    summary: str
    rank: float
    measures: str
    floor: bool


@dataclass(frozen=True)
class Summary:
    """All entries of a run, in the order in which they are shown.

    laws and spreads: the reward of the tilted law, and how wide it is, of the problems whose
    samples tell it.
    """

    entries: tuple[Entry, ...]
    info: Mapping[str, MetricInfo]
    laws: Mapping[ProblemKey, LawReward] = field(default_factory=dict)
    spreads: Mapping[ProblemKey, LawSpread] = field(default_factory=dict)

    @property
    def problems(self) -> list[ProblemKey]:
        """In order of appearance."""
        return list(dict.fromkeys(entry.problem for entry in self.entries))

    @property
    def colours(self) -> dict[str, str]:
        """Label -> the colour that the method would like, of every method."""
        return {entry.method: entry.about.colour for entry in self.entries}

    def of(self, problem: ProblemKey, budget: str | None = None) -> list[Entry]:
        """The entries of a problem, at one budget or at all."""
        return list(self._grouped.get((problem, budget), ()))

    @cached_property
    def _grouped(self) -> dict[tuple[ProblemKey, str | None], list[Entry]]:
        found: dict[tuple[ProblemKey, str | None], list[Entry]] = {}
        for entry in self.entries:
            for budget in (None, entry.budget):
                found.setdefault((entry.problem, budget), []).append(entry)
        return found

    def noun(self, problem: ProblemKey | None = None) -> str:
        """What the task of a problem calls a sample; of the run, where all tasks agree."""
        found = {noun for of, noun in self._nouns if problem in (None, of)}
        return found.pop() if len(found) == 1 else "sample"

    @cached_property
    def _nouns(self) -> set[tuple[ProblemKey, str]]:
        return {(e.problem, str(e.cells["task_noun"].iloc[0])) for e in self.entries}

    def budgets(self, problem: ProblemKey) -> list[str]:
        """Budgets of a problem, small ones first."""
        return list(dict.fromkeys(entry.budget for entry in self.of(problem)))

    def metrics(self, problem: ProblemKey) -> list[str]:
        """Metrics that were measured or refused on a problem, the important ones first."""
        found = {metric for entry in self.of(problem) for metric in entry.estimates}
        return sorted(found, key=self._place)

    def measuring(self, subject: str) -> list[str]:
        """The metrics of the run that speak of a subject, the important ones first."""
        found = (metric for metric, info in self.info.items() if info.measures == subject)
        return sorted(found, key=self._place)

    def _place(self, metric: str) -> tuple[float, str]:
        return self.info[metric].rank, metric

    def has(self, problem: ProblemKey, metric: str) -> bool:
        """Whether any method of the problem has a value of the metric."""
        return (problem, metric) in self._known

    @cached_property
    def _known(self) -> set[tuple[ProblemKey, str]]:
        found = ((e.problem, m, value) for e in self.entries for m, value in e.estimates.items())
        return {(problem, metric) for problem, metric, value in found if value.known}

    def distance(self, problem: ProblemKey) -> str | None:
        """The main distance to the tilted law: the first that has a value."""
        return next((m for m in self.measuring("distance") if self.has(problem, m)), None)

    def floored(self, problem: ProblemKey) -> str | None:
        """The main distance among those of which multiples of the floor make sense."""
        floored = (m for m in self.measuring("distance") if self.info[m].floor)
        return next((m for m in floored if self.has(problem, m)), None)

    def judge(self, problem: ProblemKey) -> str:
        """The main held-out judge of a problem, whether or not it has a value; "" without one."""
        found = self.metrics(problem)
        return next((m for m in self.measuring("judge") if m in found), "")

    def credibility(self, problem: ProblemKey, metric: str) -> JudgeCredibility:
        """How far a metric's judge can be believed on a problem; empty where it is not learnt."""
        said = (entry.credibility.get(metric) for entry in self.of(problem))
        return next(filter(None, said), JudgeCredibility())

    def find(self, problem: ProblemKey, name: str, budget: str) -> Entry | None:
        """The first entry of a method name at a budget."""
        return next((e for e in self.of(problem, budget) if e.name == name), None)

    def untilted(self, problem: ProblemKey, budget: str) -> Entry | None:
        """The base model at a budget."""
        return next((e for e in self.of(problem, budget) if e.is_untilted), None)

    def base(self, entry: Entry) -> Entry | None:
        """The base model at an entry's budget, or the only one that there is."""
        same = self.untilted(entry.problem, entry.budget)
        others = (e for e in self.of(entry.problem) if e.is_untilted and len(e.done))
        return same or next(others, None)

    def nearest(self, problem: ProblemKey, budget: str) -> Entry | None:
        """The contestant that is nearest to the law at a budget; None where no distance tells."""
        if (problem, budget) not in self._nearest:
            metric, here = self.distance(problem), self.of(problem, budget)
            known = [e for e in here if metric and e.is_contestant and e.estimate(metric).known]
            found = min(known, key=lambda e: e.estimate(str(metric)).mean, default=None)
            self._nearest[problem, budget] = found
        return self._nearest[problem, budget]

    @cached_property
    def _nearest(self) -> dict[tuple[ProblemKey, str], Entry | None]:
        return {}

    def exact(self, problem: ProblemKey, budget: str) -> Entry | None:
        """The exact draws, preferably at this budget; what they score does not depend on it."""
        here = (e for e in self.of(problem, budget) if e.is_floor)
        others = (e for e in self.of(problem) if e.is_floor and len(e.done))
        return next(here, None) or next(others, None)


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that are known; NaN where none is."""
    known = int((~np.isnan(values)).sum())
    return float(np.nansum(values)) / known if known else math.nan
