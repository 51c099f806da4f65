"""Calls of functions of rows, and of gradients, that are answered together.

Calls of one kind are one call on the rows of all of them; gradients are one pass through the graph
that the callers share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.core.conditions import RowConditions


@dataclass(frozen=True)
class Call:
    """A call of a function of rows; `spread` if its other arguments may differ from row to row."""

    name: tuple[Any, ...]
    fn: Callable[..., Tensor]
    args: tuple[Any, ...]
    spread: bool
    gradient: bool

    @property
    def rows(self) -> int:
        found: int = self.args[0].shape[0]
        return found

    @property
    def kind(self) -> tuple[Any, ...]:
        """What calls that are answered together have in common."""
        return self.name, self.gradient, *map(self._kind_of, self.args)

    def _kind_of(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return tuple(value.shape[1:]), value.dtype, value.device
        return "" if self.spread else json.dumps(value, sort_keys=True, default=repr)

    @staticmethod
    def joint(calls: Sequence[Call], _: bool) -> list[Any]:
        """The answers of calls of one kind."""
        first, counts = calls[0], [call.rows for call in calls]
        with torch.set_grad_enabled(first.gradient):
            if len(calls) == 1:
                return [first.fn(*first.args)]
            columns = zip(*(call.args for call in calls), strict=True)
            out = first.fn(*(_joined(column, counts) for column in columns))
            # copies: a run may write into its own rows
            return [part.clone() for part in torch.split(out, counts)]


def _joined(values: Sequence[Any], counts: Sequence[int]) -> Any:
    """One argument of several calls as one."""
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    same = all(value == values[0] for value in values)
    return values[0] if same else RowConditions(tuple(values), tuple(counts))


@dataclass(frozen=True)
class Gradient:
    """A call of `torch.autograd.grad`."""

    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    slopes: tuple[Tensor | None, ...]
    keep: bool
    options: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        outputs: Any,
        inputs: Any,
        grad_outputs: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        **options: Any,
    ) -> Gradient:
        """From the arguments that it was called with."""
        outputs, inputs = _several(outputs), _several(inputs)
        slopes = (None,) * len(outputs) if grad_outputs is None else _several(grad_outputs)
        keep = create_graph if retain_graph is None else retain_graph
        return Gradient(outputs, inputs, slopes, keep, {"create_graph": create_graph, **options})

    @property
    def kind(self) -> tuple[Any, ...]:
        return "gradient", self.keep, *sorted(self.options.items())

    @staticmethod
    def joint(asked: Sequence[Gradient], everybody: bool) -> list[Any]:
        """Gradients in all inputs, in one pass; the graph stays while somebody else may need it."""
        found = torch.autograd.grad(
            [out for each in asked for out in each.outputs],
            [x for each in asked for x in each.inputs],
            [slope for each in asked for slope in each.slopes],
            retain_graph=asked[0].keep or not everybody,
            **asked[0].options,
        )
        rest = iter(found)
        return [tuple(next(rest) for _ in each.inputs) for each in asked]


def _several(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, Tensor) else tuple(value)
