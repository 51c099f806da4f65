"""What is worth its cost, in every unit."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.data.summary import ProblemKey
from reports.figures.front import front_figure
from reports.tables.front import front_grid, metric_fronts


def content(material: Material) -> Content | None:
    """A figure and a table per problem; None where nothing has a cost."""
    made = [_of(material, problem) for problem in material.problems]
    found = [one for one in made if one["table"]]
    return {"problems": found} if found else None


def _of(material: Material, problem: ProblemKey) -> dict[str, object]:
    summary, looks = material.summary, material.looks
    found = metric_fronts(summary, problem)
    return {
        "problem": problem,
        "figure": front_figure(summary, problem, found, looks),
        "table": front_grid(summary, found, looks),
    }


CHAPTER = Chapter(55, "What is worth its cost", content)
