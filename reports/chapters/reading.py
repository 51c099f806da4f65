"""What the numbers say in words, and the tests behind it."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.data.summary import ProblemKey
from reports.tables.differences import differences_grid
from reports.tables.grid import TableGrid
from reports.text.findings import findings


def content(material: Material) -> Content:
    """Sentences and tests per problem."""
    return {
        "problems": [
            {
                "problem": problem,
                "reading": findings(material.summary, problem),
                "tests": _tests(material, problem),
            }
            for problem in material.problems
        ]
    }


def _tests(material: Material, problem: ProblemKey) -> list[tuple[str, TableGrid]]:
    """Of the reward and of the main distance, where something can be tested."""
    summary = material.summary
    metrics = ("reward", summary.distance(problem))
    tested = [m for m in metrics if m and summary.has(problem, m)]
    found = [(m, differences_grid(summary, problem, m, material.looks)) for m in tested]
    return [(metric, grid) for metric, grid in found if grid]


CHAPTER = Chapter(30, "What the numbers say", content)
