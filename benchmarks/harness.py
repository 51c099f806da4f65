"""What the harness costs: a method as the runner runs it over the same mathematics, written out.

Both sides steer 128 digits by MFM-G (4 draws, 20 steps) with the task's own networks and reward, on
one thread, in adjacent pairs.  The bare loop has no meter, no problem, no instances, no search for
values that are not finite and no diagnostics; it does what somebody would write who wants these
samples and nothing else.  That includes drawing the noise, by the same `NoiseSource`: the samples
are then the same to the bit, which is checked.  What named noise costs over `torch.randn` is a
figure of its own, from two bare loops.

The harness side stages the cell, makes its metered problem with a limit and priced FLOPs, samples
and reads the ledger, as a worker does for every cell.  Loading weights and counting prices happen
once per worker, before anything is timed.

Freed memory stays with the process on both sides, as it does in a worker: `bench.runner.memory`.

Promised: at most 5 %.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from bench.core.cells import Cell
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.tasks import Reward, Task
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner import memory
from bench.runner.cell import sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem
from benchmarks.timing import ratios

N, DRAWS, STEPS, START = 128, 4, 20, 0.01
LIMIT = N * STEPS * (1 + 4.0 * DRAWS)
"""Paper-nfe that the method spends, exactly."""

Normals = Callable[[str, int, tuple[int, ...]], Tensor]
"""(name, step, shape) -> standard normals (N, *shape)."""


def cell() -> Cell:
    """MFM-G on the digits' template reward."""
    content = {
        "name": "b",
        "tasks": ["digits"],
        "rewards": ["template"],
        "n": N,
        "seeds": 1,
        "methods": [f"mfm-g:draws={DRAWS},steps={STEPS}"],
    }
    return expand(build_suite(content))[0].cell


def by_the_runner(cell: Cell) -> Tensor:
    """The samples of a cell, as a worker makes them."""
    instances, meter = instances_of(cell), Meter(LIMIT, count_flops=True)
    problem = make_problem(cell, instances, meter, range(N))
    samples = sample_in_batches(instances.method, problem, cell)
    assert meter.work().cost("paper-nfe") == LIMIT
    return samples.x


def bare(task: Task, reward: Reward, strength: float, normals: Normals) -> Tensor:
    """MFM-G, arXiv 2601.14430, Eq. 22: x += dt (b + (sigma^2/2) grad log mean e^{r(X_i)})."""
    flow, flow_map, shape = task.flow, task.flow_map, task.event_shape
    assert flow_map is not None
    x = normals("x0", 0, shape)
    grid = [START + (1 - START) * k / STEPS for k in range(STEPS + 1)]
    zeros, ones = torch.zeros(N * DRAWS), torch.ones(N * DRAWS)
    for k in range(STEPS):
        t, u = torch.full((N,), grid[k]), torch.full((N,), grid[k + 1])
        with torch.no_grad():
            b = flow.velocity(x, t)
        x = x.requires_grad_()
        context = x.expand(DRAWS, *x.shape).reshape(N * DRAWS, *shape)
        e = normals("posterior", k, (DRAWS, *shape)).transpose(0, 1).reshape(context.shape)
        x1 = e + flow_map.velocity(e, zeros, ones, context, t.repeat(DRAWS))
        r = (reward(x1, None) * strength).reshape(DRAWS, N)
        (slope,) = torch.autograd.grad((r.logsumexp(0) - math.log(DRAWS)).sum(), x)
        half, dt = flow.interpolant.half_variance(t), u - t
        x = x.detach() + dt[:, None, None, None] * (b + half[:, None, None, None] * slope)
    return x


def overheads(pairs: int) -> tuple[list[float], list[float]]:
    """Ratios of the runner over the bare loop, and of named noise over `torch.randn` in it."""
    own = cell()
    instances = instances_of(own)
    source = NoiseSource(own.seed, own.task)

    def named(name: str, step: int, shape: tuple[int, ...]) -> Tensor:
        return source.normal(name, step, shape, range(N))

    def plain(_: str, __: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(N, *shape)

    def loop(normals: Normals) -> Callable[[], Tensor]:
        return lambda: bare(instances.task, instances.target.reward, own.strength, normals)

    assert torch.equal(by_the_runner(own), loop(named)()), "both sides must give the same samples"
    return (
        ratios(lambda: by_the_runner(own), loop(named), pairs),
        ratios(loop(named), loop(plain), pairs // 2),
    )


def told(what: str, found: list[float]) -> str:
    """Median and quartiles of ratios, as percentages over one."""
    low, median, high = (100 * (q - 1) for q in statistics.quantiles(found, n=4))
    return f"{what}: {median:+.1f} % (quartiles {low:+.1f} to {high:+.1f} %, {len(found)} pairs)"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    pairs = parser.parse_args([] if arguments is None else arguments).pairs
    torch.set_num_threads(1)
    memory.keep_freed()
    harness, noise = overheads(pairs)
    print(told("harness over a bare loop (promised 5 %)", harness))
    print(told("named noise over torch.randn, in the bare loop", noise))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
