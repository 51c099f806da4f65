"""Every metric with its interval, and what it cost."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.tables.compute import has_fits, has_maps
from reports.tables.headline import headline_grid
from reports.text.leaders import closed_form_note


def content(material: Material) -> Content:
    """A table per problem."""
    summary = material.summary
    grids = [(p, headline_grid(summary, p, material.looks)) for p in material.problems]
    return {
        "problems": [{"problem": problem, "headline": grid} for problem, grid in grids],
        "noun": summary.noun(),
        "has_fits": has_fits(summary.entries),
        "has_maps": has_maps(summary.entries),
        "apart": closed_form_note(summary),
    }


CHAPTER = Chapter(20, "Headline", content)
