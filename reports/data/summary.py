"""From cells to entries: what one method did at one budget on one problem.

Conditions count alike; seeds, fits and sentences give the interval.  Only cells that ended `ok`
count; the others stay in the entry and are named wherever a number is missing because of them.

A method under several `fit_seed`s is one method with several fits: to train again is to repeat it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pandas as pd

from reports.data.counts import own_error
from reports.data.replicates import Row, numbered
from reports.data.statistics import MeanInterval, mean_of

KEYS = ["task", "reward", "strength", "method", "budget"]

LABEL = r"[-+\d.]*"
"""Conditions that are no sentences: numbers, or none at all."""

FIT_SEED = re.compile(r"(?<=[:,])fit_seed=\d+,?")


def without_fit_seed(label: str) -> str:
    """A method's label, whichever fit it is."""
    return FIT_SEED.sub("", label).rstrip(",:")


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
        return self.cells[self.cells["status"] == "ok"]

    @cached_property
    def trouble(self) -> str:
        """'2 of 3 cells failed: reason' for what did not end ok; empty if all did."""
        rest = self.cells[self.cells["status"] != "ok"]
        total, parts = len(self.cells), []
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

    def mean(self, column: str) -> float:
        """Mean of a column over the cells that ended ok."""
        return float(self.done[column].mean()) if len(self.done) else math.nan

    def per_sample(self, column: str) -> float:
        """A measured total per returned sample, over the cells that ended ok."""
        count = self.done["n"].sum()
        return float(self.done[column].sum() / count) if count else math.nan

    @cached_property
    def fits(self) -> int:
        """How many fits a condition has at most; 0 for a method that does not fit."""
        own = self.done[self.done["fit"] != ""]
        return int(own.groupby("condition")["fit"].nunique().max()) if len(own) else 0

    @property
    def untested_fit(self) -> bool:
        """Whether it has one fit, so that nothing is known about another one."""
        return any(found.source == "one fit" for found in self.estimates.values())

    @property
    def fit_label(self) -> str:
        """'one fit' or '3 fits'; empty for a method that does not fit."""
        return {0: "", 1: "one fit"}.get(self.fits, f"{self.fits} fits")

    @property
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
    """All entries of a run, in the order in which they are shown."""

    entries: tuple[Entry, ...]
    info: Mapping[str, MetricInfo]

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
        fits = (e for e in self.entries if e.problem == problem)
        return [e for e in fits if budget is None or e.budget == budget]

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
        return any(entry.estimate(metric).known for entry in self.of(problem))

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

    def exact(self, problem: ProblemKey, budget: str) -> Entry | None:
        """The exact draws, preferably at this budget; what they score does not depend on it."""
        here = (e for e in self.of(problem, budget) if e.is_floor)
        others = (e for e in self.of(problem) if e.is_floor and len(e.done))
        return next(here, None) or next(others, None)


def summarise(cells: pd.DataFrame, metrics: pd.DataFrame) -> Summary:
    """Entries from complete tables (`tidy_cells`, `tidy_metrics`)."""
    names = [field.name for field in fields(MetricInfo)]
    rows = metrics.sort_values(["metric", "version"]).to_dict("records")
    info = {row["metric"]: MetricInfo(**{name: row[name] for name in names}) for row in rows}
    return Summary(tuple(_entries(cells, metrics)), info)


def _entries(cells: pd.DataFrame, metrics: pd.DataFrame) -> Iterator[Entry]:
    cells = cells.assign(method=cells["method"].map(without_fit_seed))
    whole = cells[["cell", "seed", "condition", "fit", "status"]]
    joined: pd.DataFrame = metrics.merge(whole.rename(columns={"condition": "whole"}), on="cell")
    # Runs from before cells of many conditions say it of the cell alone.
    under = joined["condition"].where(joined["condition"] != "", joined["whole"])
    values: pd.DataFrame = joined.assign(condition=under).query("status == 'ok'")
    groups = [group for _, group in cells.groupby(KEYS, sort=False)]
    for group in sorted(groups, key=lambda group: _order(cells, group)):
        first: Any = group.iloc[0]
        problem = ProblemKey(first.task, first.reward, float(first.strength))
        own = values[values["cell"].isin(group["cell"])]
        names = (first.method, first.method_name, first.budget)
        about, believed = _about(first), _credibility(own)
        yield Entry(problem, *names, group, _estimates(own), about, believed)


def _credibility(values: pd.DataFrame) -> dict[str, JudgeCredibility]:
    """By metric, of those that are learnt."""
    learnt = values[values["accuracy"] != ""].drop_duplicates("metric")
    rows = learnt[["metric", "accuracy", "accuracy_source"]].itertuples(index=False)
    return {str(metric): JudgeCredibility(*said) for metric, *said in rows}


def _about(cell: Any) -> MethodInfo:
    names = [field.name for field in fields(MethodInfo)]
    return MethodInfo(**{name: cell[f"method_{name}"] for name in names})


def _order(cells: pd.DataFrame, group: pd.DataFrame) -> tuple[Any, ...]:
    """Problems and methods by first appearance, references first, budgets by size."""
    first = group.iloc[0]
    same = (cells["task"] == first.task) & (cells["reward"] == first.reward)
    problem = cells.index[same & (cells["strength"] == first.strength)][0]
    amount = math.inf if math.isnan(first.budget_amount) else first.budget_amount
    appearance = cells.index[cells["method"] == first.method][0]
    return problem, first.budget_unit, amount, first.budget, _end(_about(first)), appearance


def _end(about: MethodInfo) -> int:
    """Ends of the scale come first: the floor, the base model, what knows the closed form."""
    ends = (about.tag == "floor", about.standing == "reference", about.standing == "closed form")
    return ends.index(True) if any(ends) else len(ends)


def _estimates(values: pd.DataFrame) -> dict[str, MeanInterval]:
    return {str(metric): _estimate(group) for metric, group in values.groupby("metric")}


def _estimate(group: pd.DataFrame) -> MeanInterval:
    """Over seeds, fits and sentences: labels are all there are, and no sample of any more."""
    which = numbered(zip(group["condition"], group["fit"], strict=True))
    own = map(own_error, group["value"], group["standard_error"], group["n"])
    columns = (group["condition"], group["seed"], group["value"], own, which)
    rows = [Row(str(c), int(s), float(x), e, f) for c, s, x, e, f in zip(*columns, strict=True)]
    sentences = not group["condition"].str.fullmatch(LABEL).any()
    notes = [*dict.fromkeys(group["note"]), _infinite(rows), _held_out(group)]
    return mean_of(rows, sentences, "; ".join(filter(None, notes)))


def _infinite(rows: list[Row]) -> str:
    """What there is to say about values that no mean can hold."""
    known = [row.value for row in rows if not math.isnan(row.value)]
    finite = [value for value in known if math.isfinite(value)]
    if len(finite) == len(known):
        return ""
    rest = f"; the mean of the others is {sum(finite) / len(finite):.3g}" if finite else ""
    return f"infinite in {len(known) - len(finite)} of {len(rows)} cells, and so is the mean{rest}"


def _held_out(group: pd.DataFrame) -> str:
    """What is known of the conditions that a fit did not see."""
    unseen = group[group["held_out"]]
    if unseen.empty:
        return ""
    count, mean = unseen["condition"].nunique(), unseen["value"].mean()
    seen = group[~group["held_out"]]["value"].mean()
    return f"{mean:.3g} under the {count} held-out conditions, {seen:.3g} under those of the fit"
