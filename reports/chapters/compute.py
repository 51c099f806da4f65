"""What was computed, and what work done once comes to."""

from __future__ import annotations

from reports.chapter import Chapter, Content, Material
from reports.tables.break_even import break_evens
from reports.tables.compute import compute_grid, has_fits, has_maps


def content(material: Material) -> Content:
    """Tables per problem."""
    summary, looks = material.summary, material.looks
    return {
        "problems": [
            {
                "problem": problem,
                "compute": compute_grid(summary, problem, looks),
                "break_evens": break_evens(summary, problem, looks),
            }
            for problem in material.problems
        ],
        "noun": summary.noun(),
        "has_fits": has_fits(summary.entries),
        "has_maps": has_maps(summary.entries),
    }


CHAPTER = Chapter(90, "Compute: the ledger", content)
