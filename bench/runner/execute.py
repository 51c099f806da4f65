"""Run one cell, anywhere: from its JSON to a payload that the driver stores.

Errors of a method become statuses, never exceptions, so that one bad cell does not end a suite.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from bench.core import plugins
from bench.core.contracts import Method, Samples, Target, Task
from bench.core.metering import Meter, OverBudget, TimeIsUp
from bench.core.noise import NoiseSource
from bench.core.params import UserError, build
from bench.core.problem import (
    MeteredFlow,
    MeteredMap,
    MeteredOracle,
    MeteredPosterior,
    Problem,
)
from bench.core.work import UNITS, Budget, Work
from bench.runner.cells import Cell, canonical, declares

RENDERED = 64
"""Samples per cell that are stored as images for galleries."""


@dataclass
class Payload:
    """What a cell sends back to the driver; everything in it can be pickled."""

    cell: str
    status: str
    reason: str = ""
    work: dict[str, float] = field(default_factory=dict)
    fit_work: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    info: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    samples: bytes = b""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    per_sample: dict[str, list[float]] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    log: str = ""
    machine: dict[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Where and with what a cell ran."""
    return {
        "device": platform.processor() or platform.machine(),
        "version": version("tiltbench"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def execute(text: str, budget: dict[str, Any] | None, metrics: list[str]) -> Payload:
    """Sample, measure and pack the cell given as JSON, under a budget."""
    cell = Cell.from_json(text)
    payload = Payload(cell.id, "ok")
    torch.set_num_threads(cell.threads)
    started = time.perf_counter()
    try:
        _run(cell, Budget(**budget) if budget else None, metrics, payload)
    except OverBudget as error:
        payload.status, payload.reason = "over_budget", str(error)
    except TimeIsUp as error:
        payload.status, payload.reason = "timeout", str(error)
    except FloatingPointError as error:
        payload.status, payload.reason = "diverged", str(error)
    except Exception as error:  # the boundary: whatever a plugin raises becomes data
        payload.status = "failed"
        payload.reason = f"{type(error).__name__}: {error}"
        payload.log += traceback.format_exc()
    payload.seconds = time.perf_counter() - started
    payload.machine = machine()
    return payload


@dataclass
class Scene:
    """A cell's instances."""

    task: Task[Any]
    target: Target
    method: Method[Any]


@lru_cache(maxsize=8)
def cached_task(name: str, params: str) -> Task[Any]:
    """Tasks hold weights, so a worker builds each once."""
    task: Task[Any] = make(plugins.load("tasks", name), json.loads(params), name)
    return task


def make(cls: type[Any], params: dict[str, Any], name: str) -> Any:
    """A plugin instance from its parameters' plain values."""
    return cls(build(cls.Params, params, name))


def stage(cell: Cell) -> Scene:
    """Load the task, the reward and the method of a cell."""
    task = cached_task(cell.task, canonical(cell.task_params))
    reward = make(plugins.load("rewards", cell.reward), cell.reward_params, cell.reward)
    reward.bind(task)
    method = make(plugins.load("methods", cell.method), cell.method_params, cell.method)
    return Scene(task, Target(reward, cell.strength, cell.condition, cell.seed), method)


def make_problem(cell: Cell, scene: Scene, meter: Meter, rows: range) -> Problem:
    """The metered problem of a cell."""
    task, target = scene.task, scene.target
    condition = cell.condition
    oracle = task.oracle(target.reward, target.strength)
    world = (cell.task, canonical(cell.task_params))
    wish = (*world, cell.reward, canonical(cell.reward_params))
    flow_map = task.flow_map if declares(task, "flow_map") else None
    posterior = task.posterior

    def scored(x: Tensor) -> Tensor:
        return checked(target.reward(x, condition), cell.reward) * target.strength

    return Problem(
        flow=MeteredFlow(task.flow, meter, condition, world),
        reward=meter.wrap("reward", scored, key=wish),
        meter=meter,
        source=NoiseSource(cell.seed, cell.task, "" if condition is None else str(condition)),
        rows=rows,
        flow_map=None if flow_map is None else MeteredMap(flow_map, meter, condition, world),
        posterior=None
        if posterior is None
        else MeteredPosterior(posterior, meter, condition, (*world, "posterior")),
        oracle=None if oracle is None else MeteredOracle(oracle, meter, wish),
        condition=condition,
    )


def checked(scores: Tensor, name: str) -> Tensor:
    """Scores, if they are finite; a NaN is an error that names the reward and the sample."""
    bad = ~torch.isfinite(scores.detach())
    if bool(bad.any()):
        first = int(bad.nonzero()[0, 0])
        raise FloatingPointError(f"the reward '{name}' is not finite for sample {first}")
    return scores


def _run(cell: Cell, budget: Budget | None, metrics: list[str], payload: Payload) -> None:
    scene = stage(cell)
    limit = None if budget is None else budget.per_sample(cell.n) * cell.n
    meter = Meter(limit, budget.unit if budget else "paper-nfe", cell.seconds, count_flops=True)
    problem = make_problem(cell, scene, meter, range(cell.n))
    problem.budget = budget
    problem.on_log = lambda step, scalars: payload.curve.append({"step": step, **scalars})
    try:
        samples = sample_in_batches(scene.method, problem, cell)
    except (OverBudget, TimeIsUp):
        _record(payload, meter.work(), cell)
        if problem.checkpoints:
            _pack(payload, problem.checkpoints[-1], scene, metrics)
        raise
    _record(payload, meter.work(), cell)
    _pack(payload, samples, scene, metrics)


def sample_in_batches(method: Method[Any], problem: Problem, cell: Cell) -> Samples:
    """All n samples, `batch` at a time; noise is indexed by sample, so batches join up."""
    parts = []
    for start in range(0, cell.n, cell.batch):
        rows = range(start, min(start + cell.batch, cell.n))
        part = method.sample(problem.for_rows(rows), len(rows))
        if len(part) != len(rows) or part.x.shape[1:] != problem.event_shape:
            raise ValueError(
                f"{cell.method} returned samples of shape {tuple(part.x.shape)}, "
                f"asked for {len(rows)} of shape {problem.event_shape}"
            )
        if not bool(torch.isfinite(part.x).all()):
            raise FloatingPointError(f"{cell.method} returned samples that are not finite")
        parts.append(part)
    return Samples.joined(parts)


def _record(payload: Payload, work: Work, cell: Cell) -> None:
    """Work in rows and in every unit, per returned sample for the units."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    payload.work = {**work.flat(), "peak_bytes": float(peak)}
    for unit in UNITS:
        payload.costs[unit] = work.cost(unit) / cell.n


def _pack(payload: Payload, samples: Samples, scene: Scene, metrics: list[str]) -> None:
    payload.info = {**samples.info}
    if samples.log_z is not None:
        payload.info["log_z"] = samples.log_z
    payload.samples = pack_samples(samples, scene.task)
    rows, per_sample = evaluate(samples, scene, metrics)
    payload.metrics, payload.per_sample = rows, per_sample


def pack_samples(samples: Samples, task: Task[Any]) -> bytes:
    """safetensors bytes: x, weights and groups where there are any, and rendered images."""
    from safetensors.torch import save

    tensors = {"x": samples.x.detach().contiguous()}
    if samples.log_weight is not None:
        tensors["log_weight"] = samples.log_weight.contiguous()
    if samples.group is not None:
        tensors["group"] = samples.group.contiguous()
    images = task.render(samples.x[:RENDERED].detach())
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


def reevaluate(text: str, samples: bytes, metrics: list[str]) -> Payload:
    """Metrics of stored samples: adding a metric never samples again."""
    cell = Cell.from_json(text)
    scene = stage(cell)
    rows, per_sample = evaluate(unpack_samples(samples), scene, metrics)
    return Payload(cell.id, "ok", metrics=rows, per_sample=per_sample)


def wanted_metrics(task: str) -> list[str]:
    """The metrics of a task, in its order; those that are not installed are an error."""
    cls = plugins.load("tasks", task)
    names = list(cls.metrics)
    unknown = [name for name in names if name not in plugins.points("metrics")]
    if unknown:
        raise UserError(f"the task '{task}' names unknown metrics: {', '.join(unknown)}")
    return names


__all__ = ["Payload", "execute", "reevaluate", "stage", "wanted_metrics"]
