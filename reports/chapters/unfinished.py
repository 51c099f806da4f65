"""Cells without a result, and why."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.text.overview import unfinished_grid


def content(material: Material) -> Content:
    """One table, or none."""
    return {"unfinished": unfinished_grid(material.run, material.summary, material.looks)}


CHAPTER = Chapter(100, "Cells without a result", content)
