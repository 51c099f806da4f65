"""Directions and budgets as text."""

from __future__ import annotations

ARROWS = {"higher": "↑", "lower": "↓"}


def budget_label(budget: str) -> str:
    """A budget; cells without one ran with their parameters as given."""
    return budget or "as given"
