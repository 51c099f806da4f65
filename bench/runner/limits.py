"""When a cell is ended from outside, since it does not stop by itself.

A cell's `seconds` are kept by its meter, between calls; a method that sleeps or loops without a
call never hears of them.  `resources: {limit: 600}` is kept by whoever runs the cell.
"""

from __future__ import annotations

from bench.core.cells import Cell
from bench.record.attempt import Attempt

GRACE = 300.0
"""Seconds for loading weights and for measuring, which a cell's `seconds` leave out."""


def hard_limit(cell: Cell) -> float | None:
    """Seconds after which a cell's process is ended: those of its resources, or by its `seconds`.

    None for a cell that says neither.
    """
    said = cell.resources.get("limit")
    if said is not None or cell.seconds is None:
        return said
    return 2 * cell.seconds + GRACE


def ended(cell: Cell, budget: str) -> Attempt:
    """The attempt of a cell that was ended at its hard limit."""
    said = f"its process was ended after {hard_limit(cell) or 0:g} s: it did not stop by itself"
    return Attempt(cell.id, "timeout", said, budget=budget)
