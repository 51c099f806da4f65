"""Whether other seeds would say the same: aggregates that one odd seed does not rule."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.figures.profiles import profile_figure
from reports.tables.profiles import profile_grid
from reports.tables.stability import largest, stability_grid


def content(material: Material) -> Content | None:
    """A table per problem, and profiles over all of them; None where there is neither."""
    summary, looks = material.summary, material.looks
    made = [(p, stability_grid(summary, p, looks)) for p in material.problems]
    found = [{"problem": problem, "table": table} for problem, table in made if table]
    budgets = largest(list(dict.fromkeys(b for p in material.problems for b in summary.budgets(p))))
    profiles = profile_grid(summary, budgets, looks)
    pictures = [(budget, profile_figure(summary, budget, looks)) for budget in budgets]
    shown = [(budget, picture) for budget, picture in pictures if picture]
    return (
        {"problems": found, "profiles": profiles, "pictures": shown} if found or profiles else None
    )


CHAPTER = Chapter(35, "Would other seeds say the same?", content)
