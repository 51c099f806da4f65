"""What a condition says, and to whom: a label, a sentence, None, or a mapping of several of them.

    {"label": 281, "text": "a photograph of a tabby cat"}

is a label for the network and a sentence for whoever scores the picture.  A plain condition is the
same for both.  Conditions are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.core.params import UserError

T = TypeVar("T")

LABEL, TEXT = "label", "text"


def label_of(condition: Any) -> Any:
    """What a class-conditional network hears; UserError for a mapping without a label."""
    return _part(condition, LABEL)


def sentence_of(condition: Any) -> Any:
    """What rewards read; UserError for a mapping without a text."""
    return _part(condition, TEXT)


def spelled(condition: Any) -> str:
    """The condition in tables and in the names of random streams; "" for None.

    A mapping is written as JSON with sorted keys, so that equal ones are written alike.
    """
    if isinstance(condition, Mapping):
        return json.dumps(condition, sort_keys=True, ensure_ascii=False)
    return "" if condition is None else str(condition)


@dataclass(frozen=True)
class RowConditions:
    """A condition for every row of a batch, in blocks: counts[k] rows in turn have conditions[k].

    What a flow or a map that `hears_rows`, and `Reward.score_rows`, take in place of a condition.
    """

    conditions: tuple[Any, ...]
    counts: tuple[int, ...]

    def index(self, device: torch.device) -> Tensor:
        """(batch,) which of `conditions` each row has."""
        counts = torch.tensor(self.counts, device=device)
        return torch.repeat_interleave(counts, output_size=sum(self.counts))

    def each_row(self, said: Callable[[Any], T]) -> list[T]:
        """What is said of the condition of every row, asked once per condition."""
        pairs = zip(map(said, self.conditions), self.counts, strict=True)
        return [value for value, count in pairs for _ in range(count)]

    def blocks(self, x: Tensor) -> list[tuple[Tensor, Any]]:
        """x (batch, ...) in blocks of one condition, each with it."""
        return list(zip(torch.split(x, list(self.counts)), self.conditions, strict=True))


class Turn:
    """The condition whose turn it is: what a network in training hears, and all copies of it."""

    def __init__(self, condition: Any) -> None:
        self.condition = condition

    def __copy__(self) -> Turn:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Turn:
        return self


def _part(condition: Any, key: str) -> Any:
    if not isinstance(condition, Mapping):
        return condition
    if key not in condition:
        raise UserError(f"the condition {spelled(condition)} has no '{key}': add one to it")
    return condition[key]
