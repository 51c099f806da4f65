"""The suite, versions and machine."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.text.overview import reproduction


def content(material: Material) -> Content:
    """Facts; the suite's text is the run's own."""
    return {"reproduction": reproduction(material.run), "suite": material.run.suite_text}


CHAPTER = Chapter(120, "How to reproduce", content)
