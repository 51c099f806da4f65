"""From the tables of a run to its summary: cells by method and budget, with their estimates.

Conditions count alike; seeds, fits and sentences give the interval.  Only cells that ended `ok`
count.  A method under several `fit_seed`s is one method with several fits: to train again is to
repeat it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.data.counts import own_error
from reports.data.number_columns import NumberColumns
from reports.data.replicates import Row, numbered
from reports.data.statistics import MeanInterval, mean_of
from reports.data.summary import (
    Entry,
    JudgeCredibility,
    MethodInfo,
    MetricInfo,
    ProblemKey,
    Summary,
)

KEYS = ["task", "reward", "strength", "method", "budget"]

LABEL = r"[-+\d.]*"
"""Conditions that are no sentences: numbers, or none at all."""

FIT_SEED = re.compile(r"(?<=[:,])fit_seed=\d+,?")


def without_fit_seed(label: str) -> str:
    """A method's label, whichever fit it is."""
    return FIT_SEED.sub("", label).rstrip(",:")


def summarise(cells: pd.DataFrame, metrics: pd.DataFrame) -> Summary:
    """Entries from complete tables (`tidy_cells`, `tidy_metrics`)."""
    names = [field.name for field in fields(MetricInfo)]
    ordered = metrics.sort_values(["metric", "version"]).drop_duplicates("metric", keep="last")
    rows = ordered[["metric", *names]].to_dict("records")
    info = {row["metric"]: MetricInfo(**{name: row[name] for name in names}) for row in rows}
    return Summary(tuple(_entries(cells, metrics)), info)


def _entries(cells: pd.DataFrame, metrics: pd.DataFrame) -> Iterator[Entry]:
    cells = cells.assign(method=cells["method"].map(without_fit_seed))
    which: NDArray[np.intp] = np.asarray(cells.groupby(KEYS, sort=False).ngroup(), dtype=np.intp)
    measured = _measured(cells, metrics, which)
    estimates, believed = _estimates(measured), _credibility(measured)
    for k, first, group, numbers in _groups(cells, which):
        problem = ProblemKey(first["task"], first["reward"], float(first["strength"]))
        names = (first["method"], first["method_name"], first["budget"])
        found = estimates.get(k, {})
        credible, preset = believed.get(k, {}), first["preset"]
        about = _about(first)
        yield Entry(problem, *names, group, found, about, credible, preset=preset, numbers=numbers)


def _groups(
    cells: pd.DataFrame, which: NDArray[np.intp]
) -> Iterator[tuple[int, Mapping[str, Any], pd.DataFrame, NumberColumns]]:
    """The cells of every entry, in the order of entries, with its number and its first cell.

    They are parts of one sorted table: to pick every entry's own rows takes a hundred times longer.
    """
    _, places, sizes = np.unique(which[which >= 0], return_index=True, return_counts=True)
    named = [*_Order.NEEDS, "preset", *(f"method_{f.name}" for f in fields(MethodInfo))]
    records = cells[which >= 0].iloc[places][named].to_dict("records")
    firsts = [{str(name): value for name, value in each.items()} for each in records]
    order = _Order.of(cells)
    shown = sorted(range(len(firsts)), key=lambda k: order.key(firsts[k]))
    rank = np.full(len(firsts) + 1, -1)
    rank[shown] = np.arange(len(shown))  # the last is that of no entry, -1
    ranked = cells.iloc[np.argsort(rank[which], kind="stable")].copy()
    numbers = NumberColumns(ranked)
    end = int((which < 0).sum())
    for k in shown:
        end, start = end + int(sizes[k]), end
        yield k, firsts[k], ranked.iloc[start:end], numbers.part(start, end)


def _measured(cells: pd.DataFrame, metrics: pd.DataFrame, which: NDArray[np.intp]) -> pd.DataFrame:
    """The metrics of the cells that ended ok, with the number of the entry that each is of."""
    kept = ["cell", "seed", "condition", "fit", "entry"]
    ended = cells.assign(entry=which)[(cells["status"] == "ok").to_numpy() & (which >= 0)][kept]
    values: pd.DataFrame = metrics.merge(ended.rename(columns={"condition": "whole"}), on="cell")
    # Runs from before cells of many conditions say it of the cell alone.
    values["condition"] = values["condition"].where(values["condition"] != "", values["whole"])
    return values


def _credibility(values: pd.DataFrame) -> dict[int, dict[str, JudgeCredibility]]:
    """By entry and metric, of those that are learnt."""
    learnt = values[values["accuracy"] != ""].drop_duplicates(["entry", "metric"])
    rows = learnt[["entry", "metric", "accuracy", "accuracy_source"]].itertuples(index=False)
    found: dict[int, dict[str, JudgeCredibility]] = {}
    for entry, metric, *said in rows:
        found.setdefault(entry, {})[str(metric)] = JudgeCredibility(*said)
    return found


def _about(cell: Mapping[str, Any]) -> MethodInfo:
    names = [field.name for field in fields(MethodInfo)]
    return MethodInfo(**{name: cell[f"method_{name}"] for name in names})


@dataclass(frozen=True)
class _Order:
    """Problems and methods by first appearance, references first, budgets by size."""

    problems: Mapping[tuple[str, str, float], int]
    methods: Mapping[str, int]

    NEEDS: ClassVar = (*KEYS, "method_name", "budget_unit", "budget_amount")
    """Columns of a cell by which it is ordered and named."""

    @classmethod
    def of(cls, cells: pd.DataFrame) -> _Order:
        problems = zip(cells["task"], cells["reward"], cells["strength"], strict=True)
        return cls(_first_places(problems), _first_places(cells["method"]))

    def key(self, first: Mapping[str, Any]) -> tuple[Any, ...]:
        """Of an entry's first cell."""
        problem = self.problems[first["task"], first["reward"], first["strength"]]
        amount = first["budget_amount"]
        budget = (first["budget_unit"], math.inf if math.isnan(amount) else amount, first["budget"])
        return problem, *budget, _end(_about(first)), self.methods[first["method"]]


def _first_places(labels: Iterable[Any]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for place, label in enumerate(labels):
        found.setdefault(label, place)
    return found


def _end(about: MethodInfo) -> int:
    """Ends of the scale come first: the floor, the base model, what knows the closed form."""
    ends = (about.tag == "floor", about.standing == "reference", about.standing == "closed form")
    return ends.index(True) if any(ends) else len(ends)


def _estimates(values: pd.DataFrame) -> dict[int, dict[str, MeanInterval]]:
    """By entry and metric."""
    names = ("condition", "seed", "value", "standard_error", "n", "fit", "note", "held_out")
    columns = [values[name].tolist() for name in names]
    keys = zip(values["entry"].tolist(), values["metric"].tolist(), strict=True)
    rows: dict[tuple[int, str], list[tuple[Any, ...]]] = {}
    for (entry, metric), *row in zip(keys, *columns, strict=True):
        rows.setdefault((entry, str(metric)), []).append(tuple(row))
    found: dict[int, dict[str, MeanInterval]] = {}
    for entry, metric in sorted(rows):
        found.setdefault(entry, {})[metric] = _estimate(rows[entry, metric])
    return found


def _estimate(values: list[tuple[Any, ...]]) -> MeanInterval:
    """Over seeds, fits and sentences: labels are all there are, and no sample of any more."""
    conditions, seeds, found, errors, counts, fits, notes, unseen = zip(*values, strict=True)
    which = numbered(zip(conditions, fits, strict=True))
    own = map(own_error, found, errors, counts)
    columns = (conditions, seeds, found, own, which)
    rows = [Row(str(c), int(s), float(x), e, f) for c, s, x, e, f in zip(*columns, strict=True)]
    labels = any(re.fullmatch(LABEL, str(c)) for c in dict.fromkeys(conditions))
    said = [*dict.fromkeys(notes), _infinite(rows), _held_out(conditions, found, unseen)]
    sentences = not (labels or _common_fit(conditions, fits))
    return mean_of(rows, sentences, "; ".join(filter(None, said)))


def _common_fit(conditions: Sequence[str], fits: Sequence[str]) -> bool:
    """Whether conditions share a fit: they show nothing then of what another fit would do."""
    pairs = {(fit, condition) for fit, condition in zip(fits, conditions, strict=True) if fit}
    return len({fit for fit, _ in pairs}) < len(pairs)


def _infinite(rows: list[Row]) -> str:
    """What there is to say about values that no mean can hold."""
    known = [row.value for row in rows if not math.isnan(row.value)]
    finite = [value for value in known if math.isfinite(value)]
    if len(finite) == len(known):
        return ""
    rest = f"; the mean of the others is {sum(finite) / len(finite):.3g}" if finite else ""
    return f"infinite in {len(known) - len(finite)} of {len(rows)} cells, and so is the mean{rest}"


def _held_out(conditions: Sequence[str], values: Sequence[float], unseen: Sequence[bool]) -> str:
    """What is known of the conditions that a fit did not see."""
    if not any(unseen):
        return ""
    of = {
        there: [v for v, out in zip(values, unseen, strict=True) if bool(out) is there]
        for there in (True, False)
    }
    mean = {there: sum(v) / len(v) if v else math.nan for there, v in of.items()}
    count = len({c for c, out in zip(conditions, unseen, strict=True) if out})
    return (
        f"{mean[True]:.3g} under the {count} held-out conditions, "
        f"{mean[False]:.3g} under those of the fit"
    )
