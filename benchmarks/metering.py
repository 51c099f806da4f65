"""What metering costs: the same steering loop with and without the meter, in one run.

Promised: at most 2 % on digits steering, 0.5 % on a DiT-B/2-sized network.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from bench.core.metering import Meter
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem
from benchmarks.timing import median_ratio, seconds


class NoMeter(Meter):
    """Hands callables through untouched."""

    def wrap(self, role: Any, fn: Any, *_: Any, **__: Any) -> Any:
        return fn


def digits(repetitions: int = 25) -> tuple[float, float]:
    """mfm-g with 4 draws and 20 steps, 128 samples, everything metered, FLOPs priced."""
    content = {
        "name": "b",
        "tasks": ["digits"],
        "rewards": ["template"],
        "n": 128,
        "seeds": 1,
        "methods": ["mfm-g:draws=4,steps=20"],
    }
    cell = expand(build_suite(content))[0].cell
    instances = instances_of(cell)

    def run(meter: Meter) -> object:
        problem = make_problem(cell, instances, meter, range(128))
        return sample_in_batches(instances.method, problem, cell)

    limit = 128 * 20 * 17.0
    return median_ratio(
        lambda: run(Meter(limit, count_flops=True)), lambda: run(NoMeter()), repetitions
    )


def dit(repetitions: int = 9, batch: int = 2) -> tuple[float, float, float]:
    """One velocity of a random DiT-B/2, forward and backward; also its own seconds."""
    from bench.models.dit import DiT, DiTConfig, DiTFlow

    torch.manual_seed(0)
    config = replace(DiTConfig.b2())
    flow = DiTFlow(DiT(config)).requires_grad_(False)
    x = torch.randn(batch, *config.event_shape)
    t = torch.full((batch,), 0.5)

    def plain(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return flow.velocity(x, t)

    def run(fn: Any) -> object:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(fn(leaf, t).sum(), leaf)

    meter = Meter(1e12, count_flops=True)
    metered = meter.wrap("flow", plain, key=("dit",))
    found = median_ratio(lambda: run(metered), lambda: run(plain), repetitions)
    return *found, min(seconds(lambda: run(plain)) for _ in range(3))


def per_call(calls: int = 5000) -> float:
    """Microseconds that the meter adds to one call with its backward, on a trivial callable.

    Divided by the time of a large network's call it bounds the overhead far below the noise of
    timing that network itself.
    """
    meter = Meter(1e12, count_flops=True)
    x, t = torch.randn(2, 4, requires_grad=True), torch.full((2,), 0.5)

    def plain(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * t[:, None]

    metered = meter.wrap("flow", plain, key=("trivial",))

    def run(fn: Any) -> None:
        for _ in range(calls):
            torch.autograd.grad(fn(x, t).sum(), x)

    run(metered)
    return 1e6 * (seconds(lambda: run(metered)) - seconds(lambda: run(plain))) / calls


def main() -> None:
    torch.set_num_threads(1)
    each = per_call()
    print(f"metering one call with its backward: {each:.1f} microseconds")
    ratio, spread = digits()
    print(f"metering on digits: {ratio - 1:+.2%} (half IQR {spread:.2%}, promised 2.0%)")
    ratio, spread, alone = dit()
    print(
        f"metering on DiT-B/2: {ratio - 1:+.2%} (half IQR {spread:.2%}, promised 0.5%); "
        f"one call of {1e3 * alone:.0f} ms bears {1e-6 * each / alone:.4%}"
    )


if __name__ == "__main__":
    main()
