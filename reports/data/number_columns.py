"""Columns of a large table as numbers, each converted once for all the parts of it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class NumberColumns:
    """By name; a part of a table shares what its other parts have converted.

    pandas takes as long to hand out a column of ten rows as to add up one of ten thousand.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        rows: slice = slice(None),
        converted: dict[str, Floats] | None = None,
    ) -> None:
        self._table, self._rows = table, rows
        self._converted: dict[str, Floats] = {} if converted is None else converted

    def part(self, start: int, end: int) -> NumberColumns:
        """Of some rows of the table."""
        return NumberColumns(self._table, slice(start, end), self._converted)

    def __getitem__(self, name: str) -> Floats:
        """A column; what is missing is NaN.  KeyError for one that the table lacks."""
        if name not in self._converted:
            self._converted[name] = self._table[name].to_numpy(float, na_value=math.nan)
        return self._converted[name][self._rows]
