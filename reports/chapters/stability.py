"""Whether other seeds would say the same: aggregates that one odd seed does not rule."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.tables.stability import stability_grid


def content(material: Material) -> Content | None:
    """A table per problem; None where no two rows have two seeds in common."""
    summary, looks = material.summary, material.looks
    made = [(p, stability_grid(summary, p, looks)) for p in material.problems]
    found = [{"problem": problem, "table": table} for problem, table in made if table]
    return {"problems": found} if found else None


CHAPTER = Chapter(35, "Would other seeds say the same?", content)
