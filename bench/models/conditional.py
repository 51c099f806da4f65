"""Class-conditional networks in the roles of a task's flow and map, under conditions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.core.conditions import RowConditions
from bench.core.protocols import Condition
from bench.models.meta_flow_map import BaseVelocity, FlowNet, Known, MetaFlowMapNet
from bench.models.nets import LabelEmbedding

LabelOf = Callable[[Condition], int | None]
"""The class that a condition means; None for no class."""


def told(
    label_of: LabelOf, condition: Condition, rows: Tensor, guidance: float, net: nn.Module
) -> Known:
    """What the networks are told of a condition, or of one per row, for every row of times."""
    if isinstance(condition, RowConditions):
        return _told_rows(
            [label_of(c) for c in condition.conditions], condition, rows, guidance, net
        )
    label = label_of(condition)
    if label is None:
        return Known()
    scale = torch.full_like(rows, guidance)
    return Known(torch.full_like(rows, label, dtype=torch.long), scale)


def _told_rows(
    labels: list[int | None],
    conditions: RowConditions,
    rows: Tensor,
    guidance: float,
    net: nn.Module,
) -> Known:
    """The same of a condition per row; none is the label past the last, at scale 1."""
    if all(label is None for label in labels):
        return Known()
    null = max(layer.classes for layer in net.modules() if isinstance(layer, LabelEmbedding))
    index = conditions.index(rows.device)
    told = torch.tensor([null if k is None else k for k in labels], device=rows.device)
    scales = torch.tensor([1.0 if k is None else guidance for k in labels]).to(rows)
    return Known(told[index], scales[index])


class ConditionalFlow(nn.Module):
    """A flow under conditions, of which it hears the label."""

    hears_rows = True

    def __init__(
        self, net: FlowNet | BaseVelocity, label_of: LabelOf, guidance: float = 1.0
    ) -> None:
        super().__init__()
        self.net, self.label_of, self.guidance = net, label_of, guidance
        self.event_shape, self.interpolant = net.event_shape, net.interpolant

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) given the condition's class, shape of x."""
        return self.net.labelled(x, t, told(self.label_of, condition, t, self.guidance, self.net))

    forward = velocity


class ConditionalMap:
    """A meta flow map under conditions, of which it hears the label."""

    hears_rows = True

    def __init__(self, net: MetaFlowMapNet, label_of: LabelOf, guidance: float = 1.0) -> None:
        self.net, self.label_of, self.guidance = net, label_of, guidance

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x) given the condition's class."""
        given = self.net.given(told(self.label_of, condition, s, self.guidance, self.net))
        return given.velocity(x_bar, s, u, x, t)

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The map of the base flow: the slice t = 0, where the context says nothing."""
        given = self.net.given(told(self.label_of, condition, s, self.guidance, self.net))
        return given.jump(x, s, u, torch.zeros_like(x), torch.zeros_like(s))
