"""Measuring a cell: its samples packed for the store, and the rows of the metrics table."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from bench.core import plugins
from bench.core.contracts import Samples, Task
from bench.core.params import UserError
from bench.runner.scene import Scene

RENDERED = 64
"""Samples per cell that are stored as images for galleries."""


CHUNK = 1024
"""Samples that are decoded at once."""


@torch.no_grad()
def decoded(x: Tensor, task: Task[Any]) -> Tensor:
    """What samples (n, *event_shape) look like, (n, *data_shape)."""
    if task.decode is None:
        return x
    return torch.cat([task.decode(part) for part in torch.split(x, CHUNK)])


def pack_samples(samples: Samples, task: Task[Any]) -> bytes:
    """safetensors bytes: x, weights and groups where there are any, and rendered images."""
    from safetensors.torch import save

    tensors = {"x": samples.x.detach().contiguous()}
    if samples.log_weight is not None:
        tensors["log_weight"] = samples.log_weight.contiguous()
    if samples.group is not None:
        tensors["group"] = samples.group.contiguous()
    images = task.render(decoded(samples.x[:RENDERED].detach(), task))
    if images is not None:
        tensors["rendered"] = images.contiguous()
    packed: bytes = save(tensors)
    return packed


def unpack_samples(data: bytes) -> Samples:
    """The inverse of `pack_samples`."""
    from safetensors.torch import load

    tensors = load(data)
    return Samples(tensors["x"], tensors.get("log_weight"), tensors.get("group"))


def evaluate(
    samples: Samples, scene: Scene, metrics: list[str]
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    """Rows of the metrics table, and per-sample scores by metric name."""
    rows, per_sample = [], {}
    samples = replace(samples, x=decoded(samples.x, scene.task))
    for name in metrics:
        cls = plugins.load("metrics", name)
        found = _measure(cls, samples, scene)
        if found.pop("per_sample", None) is not None:
            per_sample[name] = found.pop("scores")
        found.pop("scores", None)
        rows.append(
            {
                "metric": name,
                "version": cls.version,
                "implementation": cls.implementation,
                "direction": cls.direction,
                "summary": cls.summary,
                "rank": cls.rank,
                "measures": cls.measures,
                "floor": cls.floor,
                **found,
            }
        )
    return rows, per_sample


def _measure(cls: type[Any], samples: Samples, scene: Scene) -> dict[str, Any]:
    if len(samples) < cls.smallest_n:
        note = f"{len(samples)} samples are too few (at least {cls.smallest_n})"
        return {"value": None, "standard_error": None, "n": len(samples), "note": note}
    try:
        measured = asdict(cls(scene.target)(samples, scene.task))
    except Exception as error:  # samples are good whatever a metric does
        note = f"the metric failed: {type(error).__name__}: {error}"
        return {"value": None, "standard_error": None, "n": len(samples), "note": note}
    scores: Tensor | None = measured["per_sample"]
    if scores is not None:
        measured["scores"] = scores.detach().tolist()
    return measured


def wanted_metrics(task: str) -> list[str]:
    """The metrics of a task, in its order; those that are not installed are an error."""
    cls = plugins.load("tasks", task)
    names = list(cls.metrics)
    unknown = [name for name in names if name not in plugins.points("metrics")]
    if unknown:
        raise UserError(f"the task '{task}' names unknown metrics: {', '.join(unknown)}")
    return names
