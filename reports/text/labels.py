"""Directions and budgets as text."""

from __future__ import annotations

ARROWS = {"higher": "↑", "lower": "↓"}


def budget_label(budget: str) -> str:
    """A budget; cells without one ran with their parameters as given."""
    return budget or "as given"


def listed(parts: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
