"""How much a packed file may unpack to: a small one that would fill memory or disk is a bomb.

Samples, weights and tables hardly shrink when they are packed, and JSON does by ten to forty; a
kilobyte of deflated zeros is a megabyte.
"""

from __future__ import annotations

RATIO = 200
"""Bytes that one packed byte may become."""

HARMLESS = 2**28
"""Bytes that may be unpacked whatever the ratio."""


def most_unpacked(size: int) -> int:
    """Bytes that a file of `size` bytes may unpack to."""
    return max(HARMLESS, RATIO * size)
