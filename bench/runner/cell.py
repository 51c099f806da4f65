"""Run one cell, anywhere: from its JSON to a payload that the driver stores.

Errors of a method become statuses, never exceptions, so that one bad cell does not end a suite.
"""

from __future__ import annotations

import platform
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from bench.core.cells import Cell
from bench.core.contracts import FineTuning, Method, Samples
from bench.core.metering import Meter, OverBudget, TimeIsUp
from bench.core.problem import Problem
from bench.core.units import DEFAULT, UNITS
from bench.core.work import Budget, Work
from bench.runner import memory
from bench.runner.energy import joules, spent_since
from bench.runner.measuring import evaluate, pack_samples, unpack_samples
from bench.runner.scene import Scene, make_fit_problem, make_problem, stage


@dataclass
class Payload:
    """What a cell sends back to the driver; everything in it can be pickled."""

    cell: str
    status: str
    reason: str = ""
    work: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    info: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    samples: bytes = b""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    per_sample: dict[str, list[float]] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    log: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    budget: str = ""
    warmup: float = 0.0
    fitted: bytes = b""


def machine() -> dict[str, Any]:
    """Where and with what a cell ran."""
    return {
        "device": platform.processor() or platform.machine(),
        "version": version("tiltbench"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def execute(
    text: str, budget: dict[str, Any] | None, metrics: list[str], fitted: bytes | None = None
) -> Payload:
    """Run the cell given as JSON under a budget: fit, or sample (from what a fit left), measure."""
    cell = Cell.from_json(text)
    payload = Payload(cell.id, "ok", budget=str(Budget(**budget)) if budget else "")
    torch.set_num_threads(cell.threads)
    memory.reset()
    started, before = time.perf_counter(), joules()
    try:
        limits = Budget(**budget) if budget else None
        if cell.part == "fit":
            _fit(cell, limits, payload)
        else:
            _sample(cell, limits, metrics, payload, fitted)
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
    payload.machine = machine() | {"joules": spent_since(before)}
    return payload


def _fit(cell: Cell, budget: Budget | None, payload: Payload) -> None:
    """Fit the cell's method; the adapted weights and the work of the whole fit."""
    from safetensors.torch import save

    scene = stage(cell)
    assert isinstance(scene.method, FineTuning)
    limit = budget.fit_budget if budget else None
    meter = Meter(limit, budget.unit if budget else DEFAULT, cell.seconds, count_flops=True)
    problem = make_fit_problem(cell, scene, meter)
    problem.problem.on_log = lambda step, scalars: payload.curve.append({"step": step, **scalars})
    try:
        fitted = scene.method.fit(problem)
    finally:
        _record(payload, meter.work(), per=1)
    bad = [name for name, value in fitted.state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise FloatingPointError(f"{cell.method} left weights that are not finite: {bad[0]}")
    payload.info = {**fitted.record}
    payload.fitted = save({name: value.contiguous() for name, value in fitted.state.items()})


def _sample(
    cell: Cell,
    budget: Budget | None,
    metrics: list[str],
    payload: Payload,
    fitted: bytes | None,
) -> None:
    scene = stage(cell, fitted)
    payload.warmup = warm_up(cell, scene)
    limit = None if budget is None else budget.per_sample(cell.n) * cell.n
    meter = Meter(limit, budget.unit if budget else DEFAULT, cell.seconds, count_flops=True)
    problem = make_problem(cell, scene, meter, range(cell.n))
    problem.budget = budget
    problem.on_log = lambda step, scalars: payload.curve.append({"step": step, **scalars})
    try:
        samples = sample_in_batches(scene.method, problem, cell)
    except (OverBudget, TimeIsUp):
        _record(payload, meter.work(), cell.n)
        if problem.checkpoints:
            _pack(payload, problem.checkpoints[-1], scene, metrics)
        raise
    _record(payload, meter.work(), cell.n)
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


WARM_ROWS = 8


@torch.no_grad()
def warm_up(cell: Cell, scene: Scene) -> float:
    """Seconds of loading weights and of the first call of the flow, before anything is timed."""
    started = time.perf_counter()
    problem = make_problem(cell, scene, Meter(count_flops=True), range(WARM_ROWS))
    x = problem.x0()
    problem.flow.velocity(x, torch.full((len(x),), 0.5))
    return time.perf_counter() - started


def _record(payload: Payload, work: Work, per: int) -> None:
    """Work in rows and in every unit; the units per returned sample, or of a whole fit."""
    payload.work = {**work.flat(), "peak_bytes": float(memory.peak())}
    for unit in UNITS:
        payload.costs[unit] = work.cost(unit) / per


def _pack(payload: Payload, samples: Samples, scene: Scene, metrics: list[str]) -> None:
    payload.info = {**samples.info}
    if samples.log_z is not None:
        payload.info["log_z"] = samples.log_z
    payload.samples = pack_samples(samples, scene.task)
    rows, per_sample = evaluate(samples, scene, metrics)
    payload.metrics, payload.per_sample = rows, per_sample


def reevaluate(text: str, samples: bytes, metrics: list[str]) -> Payload:
    """Metrics of stored samples: adding a metric never samples again."""
    cell = Cell.from_json(text)
    scene = stage(cell)
    rows, per_sample = evaluate(unpack_samples(samples), scene, metrics)
    return Payload(cell.id, "ok", metrics=rows, per_sample=per_sample)
