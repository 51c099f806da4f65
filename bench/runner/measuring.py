"""Measuring a cell: its samples packed for the store, and the rows of the metrics table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bench.core import plugins
from bench.core.cells import Cell
from bench.core.conditions import spelled
from bench.core.metrics import Metric
from bench.core.params import UserError
from bench.core.place import HOST, Place
from bench.core.returned import BadReturn, number
from bench.core.seeding import seed_all
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples
from bench.record.attempt import MetricRow
from bench.record.seals import Damaged
from bench.runner.instances import Instances, instances_of
from bench.runner.isolation import isolated
from bench.runner.shown import Shown, decoded

RENDERED = 64
"""Samples per cell that are stored as images for galleries."""


def pack_samples(samples: Samples, task: Task[Any], place: Place = HOST) -> bytes:
    """safetensors bytes: x, weights and groups where there are any, and rendered images."""
    from safetensors.torch import save

    tensors = {"x": samples.x.detach().contiguous()}
    if samples.log_weight is not None:
        tensors["log_weight"] = samples.log_weight.contiguous()
    if samples.group is not None:
        tensors["group"] = samples.group.contiguous()
    with place.measuring():
        images = task.render(decoded(samples.x[:RENDERED].detach(), task, place))
    if images is not None:
        tensors["rendered"] = images.contiguous()
    packed: bytes = save(HOST.here(tensors))
    return packed


def unpack_samples(data: bytes) -> Samples:
    """The inverse of `pack_samples`; raises Damaged where the data are none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        return Samples(tensors["x"], tensors.get("log_weight"), tensors.get("group"))
    except (SafetensorError, KeyError, ValueError) as error:
        raise Damaged("holds no samples") from error


def evaluate(
    samples: Samples, instances: Instances, metrics: Iterable[str]
) -> tuple[tuple[MetricRow, ...], dict[str, list[float]]]:
    """Rows of the metrics table, and per-sample scores by metric name.

    Measured where the cell's networks lie.  Rewards and judges keep the cell's precision; the
    metrics' own networks and all statistics are float32 or wider whatever that is, since they
    compare cells of any.
    """
    place = instances.place
    # A method that leaves gradients on, over a network that wants them, hands over the graph too.
    x = place.here(samples.x.detach())
    weight, group = place.here((samples.log_weight, samples.group))
    weight = None if weight is None else weight.detach()
    samples = replace(samples, x=x, log_weight=weight, group=group)
    classes = {name: plugins.load("metrics", name) for name in metrics}
    shown = Shown(samples, instances, classes)
    with place.measuring():
        found = {name: _measure(name, shown) for name in classes}
    rows = tuple(_row(name, cls, found[name]) for name, cls in classes.items())
    scored = {n: m.per_sample for n, m in found.items() if m.per_sample is not None}
    return rows, {name: scores.detach().tolist() for name, scores in scored.items()}


def evaluate_cell(
    cell: Cell, samples: Samples, instances: Instances, metrics: Iterable[str]
) -> tuple[tuple[MetricRow, ...], dict[str, list[float]]]:
    """The same of a cell; where it holds many conditions, under each of them, by its name."""
    if not cell.conditions:
        return evaluate(samples, instances, metrics)
    rows: list[MetricRow] = []
    scores: dict[str, list[float]] = {}
    names = list(metrics)
    for k, one in enumerate(cell.each):
        part = samples.rows(range(k * cell.n, (k + 1) * cell.n))
        found, scored = evaluate(part, instances.under(one), names)
        rows += (replace(row, condition=spelled(one.condition)) for row in found)
        for name in names:
            own = scored.get(name, [float("nan")] * cell.n)
            scores.setdefault(name, []).extend(own)
    scored_by = {name for name, values in scores.items() if any(v == v for v in values)}
    return tuple(rows), {name: scores[name] for name in names if name in scored_by}


def _row(name: str, cls: type[Metric], found: Measurement) -> MetricRow:
    """What was measured, with what the metric's class declares."""
    return MetricRow(
        metric=name,
        version=cls.version,
        implementation=cls.implementation,
        direction=cls.direction,
        summary=cls.summary,
        rank=cls.rank,
        measures=cls.measures,
        floor=cls.floor,
        value=found.value,
        standard_error=found.standard_error,
        n=found.n,
        note=found.note,
        accuracy=found.credibility.accuracy,
        accuracy_source=found.credibility.source,
    )


def _measure(name: str, shown: Shown) -> Measurement:
    cls, n = shown.classes[name], len(shown.samples)
    if n < cls.smallest_n:
        note = f"{n} samples are too few (at least {cls.smallest_n})"
        return Measurement(None, n=n, note=note)
    try:
        measured = _checked(shown.to(name), cls.__name__, n)
        return replace(measured, credibility=shown.metric(name).credibility())
    except Exception as error:  # samples are good whatever a metric does
        if isinstance(error, BadReturn) and cls.measures == "target":
            raise  # the reward that was asked for gave no scores: there is no result
        note = f"the metric failed: {type(error).__name__}: {error}"
        return Measurement(None, n=n, note=note)


def _checked(found: Measurement, metric: str, n: int) -> Measurement:
    """A measurement in plain numbers; a value that is not finite is none, and the note says so."""
    if not isinstance(found, Measurement):
        raise BadReturn(f"{metric} returned a value of type {type(found).__name__}")
    value, error = (
        None if told is None else number(told, f"{metric} returned a value")
        for told in (found.value, found.standard_error)
    )
    each = found.per_sample
    if each is not None and each.shape != (n,):
        raise BadReturn(f"{metric} scored {n} samples by a tensor of shape {tuple(each.shape)}")
    for told, name in ((value, "value"), (error, "standard error")):
        if told is not None and not math.isfinite(told):
            note = "; ".join(filter(None, (found.note, f"the {name} is not finite ({told})")))
            found = replace(found, value=None if name == "value" else value, note=note)
            return replace(found, standard_error=None)
    return replace(found, value=value, standard_error=error)


def reevaluate(cell: Cell, samples: bytes, metrics: Iterable[str]) -> tuple[MetricRow, ...]:
    """Metrics of stored samples: adding a metric never samples again."""
    with isolated(f"{cell.id}/measured"):
        found, instances = unpack_samples(samples), instances_of(cell)
        seed_all(f"{cell.id}/measured")
        return evaluate_cell(cell, found, instances, metrics)[0]


def wanted_metrics(task: str) -> list[str]:
    """The metrics of a task, in its order; those that are not installed are an error."""
    cls = plugins.load("tasks", task)
    names = list(cls.metrics)
    unknown = [name for name in names if name not in plugins.points("metrics")]
    if unknown:
        raise UserError(f"the task '{task}' names unknown metrics: {', '.join(unknown)}")
    return names
