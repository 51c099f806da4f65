"""Distance to the tilted law against compute."""

from __future__ import annotations

from markupsafe import Markup

from reports.chapter import Chapter, Content, Material
from reports.figures.curves import against_compute


def content(material: Material) -> Content:
    """One figure for all problems that have a distance."""
    summary = material.summary
    figure = against_compute(summary, material.looks, "distance-curves", summary.distance)
    return {
        "distance_curves": Markup(figure),
        "has_exact": material.has_exact,
        "problems": [{"problem": p, "distance": summary.distance(p)} for p in material.problems],
    }


CHAPTER = Chapter(50, "Distance to the tilted law", content)
