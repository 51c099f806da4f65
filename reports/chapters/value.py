"""How well posterior samplers estimate what all steering stands on."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.data.value_study import value_studies
from reports.figures.value_study import legend, value_figure
from reports.tables.value_study import value_grid


def content(material: Material) -> Content | None:
    """A figure and a table per study that was kept with the run; None without any."""
    made = [
        {
            "study": study,
            "figure": value_figure(study),
            "legend": legend(study),
            "table": value_grid(study),
        }
        for study in value_studies(material.run)
    ]
    return {"studies": made} if made else None


CHAPTER = Chapter(58, "Estimating the value function", content)
