"""What MLflow shows of a whole suite: a speaking name, its parameters, a headline per method.

Read from the tables alone; nothing here knows MLflow's client.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from bench.record import layout
from bench.record.store import Store
from bench.tracking.artifacts import clean

PROBLEM = ["task", "reward", "strength"]
FEW = 3
"""Names that a title spells out; of more it says how many."""


@dataclass(frozen=True)
class Headline:
    """A method's mean of what decides, at a budget, whose amount is the step."""

    name: str
    value: float
    step: int


def title(store: Store) -> str:
    """Name, tasks with their rewards, budgets."""
    cells = store.table("cells")
    problems = dict.fromkeys(f"{row.task}/{row.reward}" for row in cells.itertuples())
    budgets = dict.fromkeys(str(budget) for budget in cells["budget"] if budget)
    parts = [store.name, _listed(problems, "problems"), _listed(budgets, "budgets")]
    return " · ".join(filter(None, parts))[:250]


def parameters(store: Store) -> dict[str, str]:
    """What was compared, as parameters that can be sorted and filtered by."""
    cells = store.table("cells")
    names = ("task", "reward", "strength", "budget", "seed", "n")
    found = {name: sorted(set(cells[name]) - {""}) for name in names}
    methods = len(set(cells["method"]))
    shown = {name: _joined(map(_plain, values)) for name, values in found.items()}
    return {name: text for name, text in shown.items() if text} | {"methods": str(methods)}


def headlines(store: Store) -> list[Headline]:
    """Of each problem the distance that decides, else the reward: means by method and budget."""
    groups = _by_problem(store)
    return [one for group in groups for one in _of_problem(group, several=len(groups) > 1)]


def deciding_metrics(store: Store) -> dict[tuple[str, str, float], str]:
    """By task, reward and strength the metric that a headline is of."""
    found = {}
    for group in _by_problem(store):
        task, reward, strength = group.iloc[0][PROBLEM]
        found[task, reward, float(strength)] = _deciding(group)
    return found


def _by_problem(store: Store) -> list[pd.DataFrame]:
    """What was measured, a row per finite value, with the cell that it is of."""
    if not store.has(layout.table("metrics")):
        return []
    cells, metrics = store.table("cells"), store.table("metrics")
    kept = ["cell", "method", "budget", "budget_amount", *PROBLEM]
    known = metrics[metrics["value"].map(lambda value: math.isfinite(float(value)))]
    rows = known.merge(cells[kept].drop_duplicates(), on="cell")
    return [group for _, group in rows.groupby(PROBLEM, sort=False, dropna=False)]


def _of_problem(rows: pd.DataFrame, several: bool) -> Iterable[Headline]:
    metric = _deciding(rows)
    own = rows[rows["metric"] == metric]
    first = own.iloc[0] if len(own) else None
    place = f"{first['task']} {first['reward']}/" if several and first is not None else ""
    for (method, _), found in own.groupby(["method", "budget"], sort=False):
        amount = found["budget_amount"].iloc[0]
        step = round(float(amount)) if pd.notna(amount) else 0
        name = "/".join(clean(part) for part in f"{place}{metric}/{method}".split("/"))
        yield Headline(name, float(found["value"].mean()), step)


def _deciding(rows: pd.DataFrame) -> str:
    """The first of the distances to the law by rank, else the reward."""
    distances = rows[rows["measures"] == "distance"]
    return str(distances.sort_values("rank")["metric"].iloc[0]) if len(distances) else "reward"


def _listed(names: Iterable[str], what: str) -> str:
    found = list(names)
    return ", ".join(found) if len(found) <= FEW else f"{len(found)} {what}"


def _joined(texts: Iterable[str]) -> str:
    whole = ", ".join(texts)
    return whole if len(whole) <= 400 else f"{whole[:400]} …"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
