"""Whether fits had settled when they ended."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.data.training import losses
from reports.figures.training import MOST_PANELS, training_figure
from reports.tables.training import training_grid


def content(material: Material) -> Content | None:
    """A figure and a table per problem with fits; None where nothing was fitted."""
    found = losses(material.run, material.summary)
    grouped = {p: [loss for loss in found if loss.problem == p] for p in material.problems}
    made = [
        {
            "problem": problem,
            "figure": training_figure(own, material.looks),
            "table": training_grid(own, material.looks),
            "undrawn": max(len(own) - MOST_PANELS, 0),
        }
        for problem, own in grouped.items()
        if own
    ]
    return {"problems": made} if made else None


CHAPTER = Chapter(65, "Training curves", content)
