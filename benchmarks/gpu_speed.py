"""Rows on speed and memory: a forward, a step against its parts, many draws in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from bench.core import rows as core_rows
from bench.core.accelerator import peak_bytes, reset_peak
from benchmarks.gpu_bench import Bench, Row, seconds
from benchmarks.gpu_networks import STRENGTH
from benchmarks.gpu_parts import parts_of, rates_of
from methods.steering.mfm import MFMGradient

PEAK_SHARE, PARTS = 0.5, 1.15
"""Asked: of the matmul peak; of the sum of its parts."""

DRAWS, MANY = 4, 64


def forward(bench: Bench) -> Iterator[Row]:
    """A forward of the transformer against the peak of products of matrices."""
    load, side = bench.load, bench.load.matmul
    a = torch.randn(side, side, device=bench.device, dtype=torch.bfloat16)
    peak = 2 * side**3 / seconds(lambda: a @ a, 4 * load.repeat)
    yield Row(f"bf16 matmul {side}^3", f"{peak / 1e12:.4g} TFLOP/s")
    part = parts_of(bench.world, bench.sizes, "bfloat16")["flow"]
    x = part.input(load.batch, bench.device)
    rate = part.price.forward(load.batch) / seconds(lambda: part.forward(x), load.repeat)
    note = f"{part.price.forward.per_row / 1e9:.4g} GFLOP a row"
    yield bench.asked(
        f"transformer forward, batch {load.batch}, bf16",
        f"{rate / 1e12:.4g} TFLOP/s = {rate / peak:.2f} of the peak",
        f">= {PEAK_SHARE}",
        rate >= PEAK_SHARE * peak,
        note,
    )


def rated(bench: Bench) -> Iterator[Row]:
    """Rates of every role at both precisions."""
    rows = {"bfloat16": bench.load.n * DRAWS, "float32": bench.load.wide_rows}
    for dtype, count in rows.items():
        parts = parts_of(bench.world, bench.sizes, dtype)
        found = rates_of(parts, count, bench.device, bench.load.repeat)
        bench.rates[dtype] = found
        told = (f"{r} {v['forward'] / 1e12:.3g} / {v['backward'] / 1e12:.3g}"
                for r, v in found.items())  # fmt: skip
        yield Row(f"TFLOP/s forward / backward, {dtype}, {count} rows", ", ".join(told))


def step(bench: Bench) -> Iterator[Row]:
    """An mfm-g step against the sum of its parts, and against a loop without a library."""
    load, rows = bench.load, bench.load.n * DRAWS
    parts = parts_of(bench.world, bench.sizes, "bfloat16")
    x = parts["flow"].input(load.n, bench.device)
    alone = {"flow": seconds(lambda: parts["flow"].forward(x), load.repeat)}
    for role in ("map", "decoder", "reward"):
        given, part = parts[role].input(rows, bench.device), parts[role]
        alone[role] = seconds(lambda g=given, p=part: p.both(g), load.repeat)  # type: ignore[misc]
    method = MFMGradient.create(steps=load.steps, draws=DRAWS)
    own = seconds(lambda: bench.sampled(method, load.n), load.repeat) / load.steps
    plain = seconds(lambda: _plainly(bench, load.n, load.steps), load.repeat) / load.steps
    ratio = own / sum(alone.values())
    told = ", ".join(f"{role} {1e3 * s:.4g} ms" for role, s in alone.items())
    yield bench.asked(
        f"mfm-g step, n = {load.n}, N = {DRAWS}, bf16",
        f"{1e3 * own:.4g} ms = {ratio:.2f} of the sum of its parts",
        f"<= {PARTS}",
        ratio <= PARTS,
        f"{told}; {bench.world.task.layers}",
    )
    yield Row("the same step in a plain loop", f"{1e3 * plain:.4g} ms, ours {own / plain:.2f}")


def _plainly(bench: Bench, n: int, steps: int) -> Tensor:
    """MFM-G as somebody writes it who wants these samples and nothing else."""
    task, tower = bench.world.task, bench.world.reward.tower
    shape, rows = task.event_shape, n * DRAWS
    x = torch.randn(n, *shape, device=bench.device)
    zeros, ones = x.new_zeros(rows), x.new_ones(rows)
    grid = [0.01 + 0.99 * k / steps for k in range(steps + 1)]
    with torch.autocast(bench.device.partition(":")[0], torch.bfloat16):
        for t, u in pairwise(grid):
            with torch.no_grad():
                b = task.flow.velocity(x, x.new_full((n,), t)).float()
            here = x.detach().requires_grad_()
            context, e = here.repeat(DRAWS, 1, 1, 1), torch.randn(rows, *shape, device=x.device)
            v = task.flow_map.velocity(e, zeros, ones, context, t * ones).float()
            r = STRENGTH * tower(task.decode(e + v)).reshape(DRAWS, n)
            (slope,) = torch.autograd.grad(r.logsumexp(0).sum(), here)
            x = x + (u - t) * (b + (1 - t) / t * slope)
    return x


def compiled(bench: Bench) -> Iterator[Row]:
    """What compiling would change, where it takes no compiler of C++."""
    if not bench.on_card:
        yield Row("forward compiled", "needs a CUDA device")
        return
    parts = parts_of(bench.world, bench.sizes, "bfloat16")
    for name, role in (("transformer", "flow"), ("reward", "reward")):
        part, rows = parts[role], bench.load.n * DRAWS
        x, fused = part.input(rows, bench.device), replace(part, run=torch.compile(part.run))
        told = _against(bench, part.forward, fused.forward, x)
        yield Row(f"{name}, {rows} rows, forward compiled", told)


def _against(
    bench: Bench, usual: Callable[[Tensor], object], other: Callable[[Tensor], object], x: Tensor
) -> str:
    """Seconds of another way to compute the same, beside those of the usual one."""
    before = seconds(lambda: usual(x), bench.load.repeat)
    after = seconds(lambda: other(x), bench.load.repeat)
    return f"{1e3 * after:.4g} ms = {after / before:.2f} of as it is"


def many(bench: Bench) -> Iterator[Row]:
    """N = 64 in pieces that fit."""
    method, n = MFMGradient.create(steps=5, draws=MANY), bench.load.wide_n
    reset_peak()
    core_rows._FITTED.clear()
    samples, meter = bench.sampled(method, n, bench.load.most)
    fitted = min(core_rows._FITTED.values(), default=0)
    size = f"pieces of {fitted} rows" if fitted else f"{bench.load.most or n * MANY} rows at once"
    yield Row(
        f"mfm-g, n = {n}, N = {MANY}, bf16",
        f"{size}, {meter.work().reward.forward / n / 5:.0f} rewards a step and sample",
        "no out-of-memory",
        bool(torch.isfinite(samples).all()),
        f"peak {peak_bytes() / 2**30:.1f} GiB" if bench.on_card else "",
    )
