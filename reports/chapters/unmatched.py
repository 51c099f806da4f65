"""What equal compute leaves unequal."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.tables.compute import unmatched


def content(material: Material) -> Content:
    """Sentences with the figures of this run."""
    return {"unmatched": unmatched(material.summary)}


CHAPTER = Chapter(110, "What was not matched", content)
