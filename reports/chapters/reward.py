"""Reward against compute."""

from __future__ import annotations

from markupsafe import Markup

from reports.chapter import Chapter, Content, Material
from reports.data.summary import ProblemKey
from reports.figures.curves import against_compute


def content(material: Material) -> Content:
    """One figure for all problems that have a reward."""
    summary = material.summary

    def pick(problem: ProblemKey) -> str | None:
        return "reward" if summary.has(problem, "reward") else None

    figure = against_compute(summary, material.looks, "reward-curves", pick)
    return {"reward_curves": Markup(figure), "has_exact": material.has_exact}


CHAPTER = Chapter(40, "Reward against compute", content)
