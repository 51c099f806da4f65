"""What a training learns from: data, and what the networks are told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.models.data_set import DataSet
from bench.models.meta_flow_map import UNTOLD, Known


@dataclass(frozen=True)
class DataSource:
    """Endless data of one law.

    pick: (n, generator) -> n data points (n, *event), and what networks are told of them.
    statistics: data (m, *event) to which a network's Gaussian model is fitted.  classes: the number
    of labels, 0 for networks that hear none.
    """

    pick: Callable[[int, torch.Generator], tuple[Tensor, Known]]
    statistics: Tensor
    classes: int = 0

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""
        return tuple(self.statistics.shape[1:])


def unlabelled(draw: Callable[[int, torch.Generator], Tensor], statistics: Tensor) -> DataSource:
    """Data from a sampler (n, generator) -> (n, *event), of which nothing is told."""
    return DataSource(lambda n, generator: (draw(n, generator), UNTOLD), statistics)


def from_data(data: Tensor) -> DataSource:
    """Uniform draws from a finite data set (m, *event)."""
    return unlabelled(
        lambda n, generator: data[torch.randint(len(data), (n,), generator=generator)], data
    )


def from_data_set(data: DataSet, told: Callable[[Tensor, torch.Generator], Known]) -> DataSource:
    """Uniform draws from rows with labels, of which `told` (labels, generator) is told."""
    if data.label is None:
        return from_data(data.x)
    x, label = data.x, data.label

    def pick(n: int, generator: torch.Generator) -> tuple[Tensor, Known]:
        rows = torch.randint(len(x), (n,), generator=generator)
        return x[rows], told(label[rows], generator)

    return DataSource(pick, x, len(data.classes))
