"""Samples as metrics see them: decoded, all at once or in pieces.

Latents of many pictures are small and the pictures are not: 50,000 of 256 x 256 are 39 GB.  Where
all that is decoded would be more than `PIECE`, a metric of single samples (`RowMetric`) meets one
piece after another, and one that looks at few (`FewMetric`) only those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.core.metrics import FewMetric, Metric, RowMetric
from bench.core.place import HOST, Place
from bench.core.rows import in_rows
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples
from bench.runner.instances import Instances

CHUNK = 1024
"""Samples that a decoder is handed at once."""

PIECE = 2**30
"""Bytes of decoded samples that are held at once, where metrics allow it."""

OF_FEW = (RowMetric, FewMetric)
"""Metrics that do not meet all samples at once."""


@torch.no_grad()
def decoded(x: Tensor, task: Task[Any], place: Place = HOST) -> Tensor:
    """What samples (n, *event_shape) look like, (n, *data_shape)."""
    if task.decode is None:
        return x
    shown: Tensor = in_rows(place.network(task.decode), x, most=CHUNK, key="decode")
    return shown


class Shown:
    """The samples of a cell for its metrics; raises what the decoder raises.

    Args:
        samples: at the cell's place, not decoded.
        instances: of the cell.
        metrics: all that will be asked for.
    """

    def __init__(
        self, samples: Samples, instances: Instances, metrics: Mapping[str, type[Metric]]
    ) -> None:
        self.samples, self.instances, self.classes = samples, instances, metrics
        self._made: dict[str, Metric] = {}
        self._whole: Samples | None = None
        self._values: dict[str, Tensor | Exception | None] = {}
        size = self._piece()
        if size < len(samples) and all(issubclass(c, OF_FEW) for c in metrics.values()):
            self._values = self._by_row(size)
        else:
            self._whole = replace(samples, x=self._decoded(samples.x))

    def metric(self, name: str) -> Metric:
        """The metric, for the cell's target."""
        if name not in self._made:
            self._made[name] = self.classes[name](self.instances.target)
        return self._made[name]

    def to(self, name: str) -> Measurement:
        """What a metric measures; raises what it raises."""
        metric, task = self.metric(name), self.instances.task
        if self._whole is not None:
            return metric(self._whole, task)
        if isinstance(metric, FewMetric):
            few = self.samples.x[metric.looks_at(self.samples)]
            return metric.among(self._decoded(few), len(self.samples), task)
        assert isinstance(metric, RowMetric)
        values = self._values[name]
        if isinstance(values, Exception):
            raise values
        return metric.of(values, self.samples, task)

    def _piece(self) -> int:
        """How many samples are decoded at once; all of those that nothing decodes."""
        x = self.samples.x
        if self.instances.task.decode is None or not len(x):
            return len(x)
        one = self._decoded(x[:1])
        return max(1, PIECE // (one.numel() * one.element_size()))

    def _decoded(self, x: Tensor) -> Tensor:
        return decoded(x, self.instances.task, self.instances.place)

    def _by_row(self, size: int) -> dict[str, Tensor | Exception | None]:
        """What metrics of single samples say of all, in one pass; an error ends its own metric."""
        said: dict[str, list[Tensor | None]] = {
            name: [] for name, cls in self.classes.items() if issubclass(cls, RowMetric)
        }
        failed: dict[str, Exception] = {}
        for start in range(0, len(self.samples), size):
            x = self._decoded(self.samples.x[start : start + size])
            for name in (name for name in said if name not in failed):
                try:
                    said[name].append(self._each(name, x))
                except Exception as error:  # raised again when the metric is asked for
                    failed[name] = error
        return {name: failed.get(name) or _joined(values) for name, values in said.items()}

    def _each(self, name: str, x: Tensor) -> Tensor | None:
        metric = self.metric(name)
        assert isinstance(metric, RowMetric)
        with self.instances.place.measuring():
            return metric.each(x, self.instances.task)


def _joined(values: list[Tensor | None]) -> Tensor | None:
    """The values of all pieces; None where nothing could be said of one."""
    known = [value for value in values if value is not None]
    return torch.cat(known) if known and len(known) == len(values) else None
