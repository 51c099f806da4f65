"""Pictures of the samples."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.figures.gallery import galleries


def content(material: Material) -> Content:
    """Galleries by problem, of those that have any."""
    found, encoding = galleries(material.run, material.summary, material.looks)
    groups = [(p, [g for g in found if g.problem == p]) for p in material.problems]
    return {
        "galleries": [(problem, shown) for problem, shown in groups if shown],
        "encoding": encoding.said,
        "has_exact": material.has_exact,
    }


CHAPTER = Chapter(70, "Galleries", content)
