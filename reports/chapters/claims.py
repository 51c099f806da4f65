"""What the run says of claims: the paper's, and our own pages'."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.data.claims import shipped_claims
from reports.data.verdicts import verdicts
from reports.tables.claims import evidence_grid
from reports.text.claims import told


def content(material: Material) -> Content | None:
    """The measured ones with their pairs; None where no claim is about this run."""
    found = verdicts(material.summary, shipped_claims())
    measured = [v for v in found if v.evidence]
    if not measured:
        return None
    shown = [{"verdict": v, "told": told(v), "table": evidence_grid(v)} for v in measured]
    return {"claims": shown, "others": [v for v in found if not v.evidence]}


CHAPTER = Chapter(85, "Claims", content)
