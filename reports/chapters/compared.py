"""What was compared: tasks, rewards, budgets, and what each method is."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.text.overview import compared_facts, methods_grid


def content(material: Material) -> Content:
    """Facts about the run, and a table of its methods."""
    run, summary = material.run, material.summary
    return {
        "compared": compared_facts(run, summary),
        "methods": methods_grid(summary, material.looks),
    }


CHAPTER = Chapter(10, "What was compared", content)
