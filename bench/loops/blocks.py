"""Rows in blocks: outputs that need many states each are made a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.core.problem import Problem
from bench.core.values import Samples

ROWS = 8192
"""States held at once: bounds memory without changing the result."""


def row_blocks(rows: range, width: int) -> Iterator[range]:
    """`rows` of `width` states each, as many at a time as ROWS allows."""
    size = max(1, ROWS // width)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def sampled_in_blocks(problem: Problem, width: int, sample: Callable[[Problem], Tensor]) -> Samples:
    """The outputs of all rows of the problem; `sample` makes those of a block of rows."""
    parts = row_blocks(problem.rows, width)
    return Samples(torch.cat([sample(problem.for_rows(rows)) for rows in parts]))
