"""Rows on what comes out: every method, the card against the CPU, waits of the host."""

from __future__ import annotations

import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench.core.metering import Meter
from bench.core.methods import FineTuning, Method
from bench.core.params import range_of
from bench.core.values import ProblemSpec
from bench.plan.binding import lacking
from bench.plan.prediction import sample_work
from bench.runner.cell import sample_in_batches
from benchmarks.gpu_bench import Bench, Row
from benchmarks.gpu_networks import TINY, World
from methods.steering.mfm import MFMGradient

FLOAT32, BFLOAT16 = 1e-4, 1e-2
"""Asked: relative errors against the CPU."""

DRAWS = 4

SPEC = ProblemSpec(TINY.net.event_shape, has_decoder=True, has_flow_map=True)


def methods(bench: Bench) -> Iterator[Row]:
    """Every method that needs no closed form and no fit, 5 steps on tiny networks."""
    world = World.made("tiny", TINY, bench.device, "cpu")
    done, wrong, absent = 0, list[str](), list[str]()
    for name, cls in sampling_methods():
        method = shortened(cls)
        if lacking(method, SPEC, world.task):
            absent.append(name)
            continue
        said = _tried(world, method)
        done += 1
        wrong += [f"{name}: {said}"] if said else []
    yield Row(
        f"{done} methods, 5 steps, tiny networks",
        f"{done - len(wrong)} finite, rows as predicted",
        "all",
        not wrong,
        "; ".join([*wrong, f"need a closed form: {', '.join(absent)}"]),
    )


def _tried(world: World, method: Method[Any]) -> str:
    """What went wrong, or ""."""
    meter, n = Meter(), max(4, method.together)
    try:
        problem, cell = world.problem(method, n, "float32", meter)
        x = sample_in_batches(method, problem, cell).x
    except Exception as error:  # a row of the table says it, and the others go on
        return traceback.format_exception_only(error)[-1].strip()
    predicted, spent = sample_work(method, SPEC) * n, meter.work()
    if not bool(torch.isfinite(x).all()):
        return "not finite"
    below = all(a <= b + 1e-6 for a, b in zip(spent.vector, predicted.vector, strict=True))
    fits = below if predicted.upper_bound else spent.same_rows(predicted)
    return "" if fits else f"rows {spent.flat()}, predicted {predicted.flat()}"


def agreement(bench: Bench) -> Iterator[Row]:
    """The device against the CPU, on the same tiny weights and noise."""
    method = MFMGradient.create(steps=5, draws=DRAWS, scale="clip")
    here = World.made("tiny", TINY, "cpu")
    there = World.made("tiny", TINY, bench.device, "cpu")
    exact = bench.sampled(method, 4, 0, here, "float32")[0]
    for dtype, most in (("float32", FLOAT32), ("bfloat16", BFLOAT16)):
        x = bench.sampled(method, 4, 0, there, dtype)[0].cpu()
        error = float((x - exact).norm() / exact.norm())
        name = f"{bench.device} {dtype} against cpu float32, tiny"
        yield Row(name, f"{error:.2g}", f"<= {most:g}", error <= most)


def waits(bench: Bench) -> Iterator[Row]:
    """How often a step makes the host wait, and where."""
    if not bench.on_card:
        yield Row("host synchronisations per step", "needs a CUDA device")
        return
    steps, world = 32, World.made("tiny", TINY, bench.device, "cpu")
    method = MFMGradient.create(steps=steps, draws=DRAWS)
    bench.sampled(method, 4, 0, world)
    with counted_waits() as where:
        bench.sampled(method, 4, 0, world)
    often = ", ".join(f"{place} {k / steps:.2g}" for place, k in where.most_common(6))
    found = f"{where.total() / steps:.3g}"
    yield Row("host synchronisations per step of mfm-g", found, note=often)


def sampling_methods() -> Iterator[tuple[str, type[Method[Any]]]]:
    """The methods of this repository that need no fit, whether it is installed or not."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    points = tomllib.loads(text)["project"]["entry-points"]["bench.methods"]
    for name, target in points.items():
        module, _, own = target.partition(":")
        cls = getattr(import_module(module), own)
        if not issubclass(cls, FineTuning):
            yield name, cls


FEW = {"steps": 5, "particles": 4, "pool": 4, "pool_steps": 5, "candidates": 4, "rollouts": 4}
"""What a method is shortened to, where it has such a parameter."""


def shortened(cls: type[Method[Any]]) -> Method[Any]:
    """The method at few steps and small populations."""
    named = {field.name for field in fields(cls.Params)} & FEW.keys()
    lowest = {name: range_of(cls.Params, name).low or 0 for name in named}
    return cls.create(**{name: max(FEW[name], int(lowest[name])) for name in named})


@contextmanager
def counted_waits() -> Iterator[Counter[str]]:
    """Counts, by file and line, what makes the host wait for the card."""
    where: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield where
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [w for w in caught if "called a synchronizing" in str(w.message)]
    where.update(f"{Path(w.filename).name}:{w.lineno}" for w in places)
