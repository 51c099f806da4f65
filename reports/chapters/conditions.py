"""Under which conditions a method is good, and under which it is not."""

from __future__ import annotations

from collections.abc import Iterable

from reports.chapter import Chapter, Content, Material
from reports.data.conditions import ConditionMap, condition_map, mapped_metrics
from reports.data.summary import ProblemKey
from reports.tables.conditions import condition_grid
from reports.text.labels import budget_label

MOST_CELLS = 5000
"""Of all heat maps of a page; where there were more, only the largest budgets have one."""

ByBudget = dict[str, list[ConditionMap]]
"""From the largest budget on, a map per metric."""


def content(material: Material) -> Content | None:
    """A map per problem, budget and metric; None where nothing has two conditions."""
    found = {problem: _maps(material, problem) for problem in material.problems}
    shown = budgets_within(found.values(), MOST_CELLS)
    made = [_of(material, p, maps, shown) for p, maps in found.items() if maps]
    return {"problems": made} if made else None


def _maps(material: Material, problem: ProblemKey) -> ByBudget:
    summary = material.summary
    metrics = mapped_metrics(summary, problem)
    made = {
        budget: [m for metric in metrics if (m := condition_map(summary, problem, metric, budget))]
        for budget in reversed(summary.budgets(problem))
    }
    return {budget: maps for budget, maps in made.items() if maps}


def budgets_within(found: Iterable[ByBudget], most: int) -> int:
    """How many budgets of every problem have a map, at least one."""
    problems = [list(by_budget.values()) for by_budget in found]
    deepest = max(map(len, problems), default=0)

    def cells(budgets: int) -> int:
        maps = (m for problem in problems for level in problem[:budgets] for m in level)
        return sum(len(m.entries) * len(m.columns()) for m in maps)

    return next((k for k in range(deepest, 1, -1) if cells(k) <= most), 1)


def _of(material: Material, problem: ProblemKey, maps: ByBudget, shown: int) -> dict[str, object]:
    """Small budgets first, so that the tab that is open is the largest."""
    levels = list(maps.items())
    return {
        "problem": problem,
        "maps": [
            (f"{m.metric}, {budget_label(budget)}", m.metric, condition_grid(m, material.looks))
            for budget, own in reversed(levels[:shown])
            for m in reversed(own)
        ],
        "left_out": [budget_label(budget) for budget, _ in reversed(levels[shown:])],
    }


CHAPTER = Chapter(57, "Condition by condition", content)
