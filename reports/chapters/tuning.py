"""What sweeps tried and what they gained."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.data.trials import load_sweeps
from reports.tables.sweep import sections


def content(material: Material) -> Content | None:
    """Figures and tables per sweep; None where nothing was tuned."""
    found = sections(load_sweeps(material.run.path), material.run.colours)
    return {"sweeps": found} if found else None


CHAPTER = Chapter(60, "Tuning", content)
