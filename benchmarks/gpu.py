"""What a GPU does with the networks that people steer: one table, at most ten minutes on an H100.

    python -m benchmarks.gpu                        # on a CUDA device
    python -m benchmarks.gpu --tiny --device cpu    # the same code in small, under a minute

Random weights, no network, nothing but torch; the autoencoder of diffusers if that is installed.
Every row states what was measured, what is asked, and whether it was met.  FLOPs per second by
role and dtype go to a file that `bench plan` reads to state hours.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core import rows as core_rows
from bench.core.accelerator import device_name, peak_bytes, reset_peak, settle
from bench.core.devices import check_device
from bench.core.flops import Price, price_unbuilt
from bench.core.metering import Meter
from bench.core.methods import FineTuning, Method
from bench.core.params import UserError, range_of
from bench.core.place import Place
from bench.core.values import ProblemSpec
from bench.models.dit import unbuilt
from bench.models.external import rates_folder
from bench.models.latent_decoder import LatentDecoder
from bench.plan.binding import lacking
from bench.plan.prediction import sample_work
from bench.plan.rates import write_rates
from bench.runner.cell import sample_in_batches
from benchmarks.gpu_networks import STRENGTH, TINY, Sizes, Tower, World, autoencoder
from methods.steering.mfm import MFMGradient

PEAK_SHARE, PARTS, FLOAT32, BFLOAT16 = 0.5, 1.15, 1e-4, 1e-2
"""Targets: of the matmul peak; of the sum of its parts; relative errors against the CPU."""


@dataclass(frozen=True)
class Load:
    """How much of everything: rows of a forward, samples and steps of steering, repetitions."""

    batch: int
    n: int
    steps: int
    matmul: int
    repeat: int
    wide_rows: int
    wide_n: int
    most: int = 0
    """Rows at once where memory must not decide, so that pieces are tried on a CPU, too."""


FULL = Load(batch=64, n=8, steps=8, matmul=8192, repeat=5, wide_rows=8, wide_n=2)
SMALL = Load(batch=4, n=2, steps=5, matmul=128, repeat=2, wide_rows=2, wide_n=2, most=24)
DRAWS, MANY = 4, 64


@dataclass(frozen=True)
class Row:
    """A row of the table; `met` is None where nothing is asked."""

    what: str
    found: str
    asked: str = ""
    met: bool | None = None
    note: str = ""


def seconds(run: Callable[[], object], repeat: int) -> float:
    """Median of so many runs, each waited for, after one that is not counted."""
    run()
    found = []
    for _ in range(repeat):
        settle()
        started = time.perf_counter()
        run()
        settle()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


# -- the parts of a step ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One network: rows (x,) -> output, what it takes, and its price per row."""

    run: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    price: Price

    def input(self, rows: int, device: str) -> Tensor:
        return torch.randn(rows, *self.shape, device=device)

    def forward(self, x: Tensor) -> object:
        with torch.no_grad():
            return self.run(x)

    def both(self, x: Tensor) -> object:
        """Forward and backward to the input."""
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(self.run(leaf).sum(), leaf)


def parts_of(world: World, sizes: Sizes, dtype: str) -> dict[str, Part]:
    """Flow, map, decoder and reward as the runner runs them."""
    place, task = Place(world.device, dtype), world.task
    place.check()

    def flow(x: Tensor) -> Tensor:
        out: Tensor = place.network(task.flow.velocity)(x, x.new_full((len(x),), 0.5))
        return out

    def drawn(x: Tensor) -> Tensor:
        s, u = x.new_zeros(len(x)), x.new_ones(len(x))
        out: Tensor = place.network(task.flow_map.velocity)(x.detach(), s, u, x, 0.5 * u)
        return out

    pictures = (3, *(side * 2 ** (len(sizes.widths) - 1) for side in sizes.net.event_shape[1:]))
    latent, prices = sizes.net.event_shape, prices_of(sizes, pictures)
    decoder, reward = (place.network(fn) for fn in (task.decode, world.reward.tower))
    runs = {"flow": (flow, latent), "map": (drawn, latent)}
    runs |= {"decoder": (decoder, latent), "reward": (reward, pictures)}
    return {role: Part(run, shape, prices[role]) for role, (run, shape) in runs.items()}


def prices_of(sizes: Sizes, pictures: tuple[int, ...]) -> dict[str, Price]:
    """FLOPs per row of every role, counted without weights."""
    latent = sizes.net.event_shape

    def decoder() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        vae = autoencoder(sizes.widths, sizes.groups)[0].requires_grad_(False)
        return LatentDecoder(vae, 1.0, rows=64).forward, (torch.zeros(2, *latent),)

    def reward() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        return Tower(sizes.tower).requires_grad_(False).forward, (torch.zeros(2, *pictures),)

    network = price_unbuilt(unbuilt(sizes.net))
    return {
        "flow": network,
        "map": network,
        "decoder": price_unbuilt(decoder),
        "reward": price_unbuilt(reward),
    }


def rates_of(parts: dict[str, Part], rows: int, device: str, repeat: int) -> dict[str, Any]:
    """FLOPs per second of every role, forward, backward and as a Jacobian-vector product."""
    found = {}
    for role, part in parts.items():
        x = part.input(rows, device)
        once = seconds(lambda part=part, x=x: part.forward(x), repeat)  # type: ignore[misc]
        both = seconds(lambda part=part, x=x: part.both(x), repeat)  # type: ignore[misc]
        ahead, back = part.price.forward(rows), part.price.backward(rows)
        # Timed apart from the forward; where noise is larger than that, with it.
        backward = back / (both - once) if both > 1.2 * once else (ahead + back) / both
        found[role] = {"forward": ahead / once, "backward": backward, "jvp": ahead / once}
    return found


# -- the rows of the table -------------------------------------------------------------------------


class Bench:
    """What all rows share: the device, the sizes, the networks."""

    def __init__(self, device: str, tiny: bool) -> None:
        self.device, self.load = device, SMALL if tiny else FULL
        self.sizes = TINY if tiny else Sizes()
        self.world = World.made("tiny" if tiny else "large", self.sizes, device)
        self.rates: dict[str, Any] = {}

    @property
    def on_card(self) -> bool:
        return self.device.startswith("cuda")

    def forward(self) -> Iterator[Row]:
        """A forward of the transformer against the peak of products of matrices."""
        load, side = self.load, self.load.matmul
        a = torch.randn(side, side, device=self.device, dtype=torch.bfloat16)
        peak = 2 * side**3 / seconds(lambda: a @ a, 4 * load.repeat)
        yield Row(f"bf16 matmul {side}^3", f"{peak / 1e12:.4g} TFLOP/s")
        part = parts_of(self.world, self.sizes, "bfloat16")["flow"]
        x = part.input(load.batch, self.device)
        rate = part.price.forward(load.batch) / seconds(lambda: part.forward(x), load.repeat)
        note = f"{part.price.forward.per_row / 1e9:.4g} GFLOP a row"
        yield self._asked(
            f"transformer forward, batch {load.batch}, bf16",
            f"{rate / 1e12:.4g} TFLOP/s = {rate / peak:.2f} of the peak",
            f">= {PEAK_SHARE}",
            rate >= PEAK_SHARE * peak,
            note,
        )

    def rated(self) -> Iterator[Row]:
        """Rates of every role at both precisions."""
        rows = {"bfloat16": self.load.n * DRAWS, "float32": self.load.wide_rows}
        for dtype, count in rows.items():
            parts = parts_of(self.world, self.sizes, dtype)
            found = rates_of(parts, count, self.device, self.load.repeat)
            self.rates[dtype] = found
            told = (f"{r} {v['forward'] / 1e12:.3g} / {v['backward'] / 1e12:.3g}"
                    for r, v in found.items())  # fmt: skip
            yield Row(f"TFLOP/s forward / backward, {dtype}, {count} rows", ", ".join(told))

    def step(self) -> Iterator[Row]:
        """An mfm-g step against the sum of its parts, and against a loop without a library."""
        load, rows = self.load, self.load.n * DRAWS
        parts = parts_of(self.world, self.sizes, "bfloat16")
        x = parts["flow"].input(load.n, self.device)
        alone = {"flow": seconds(lambda: parts["flow"].forward(x), load.repeat)}
        for role in ("map", "decoder", "reward"):
            given, part = parts[role].input(rows, self.device), parts[role]
            alone[role] = seconds(lambda g=given, p=part: p.both(g), load.repeat)  # type: ignore[misc]
        method = MFMGradient.create(steps=load.steps, draws=DRAWS)
        own = seconds(lambda: self._sampled(method, load.n), load.repeat) / load.steps
        plain = seconds(lambda: self._plainly(load.n, load.steps), load.repeat) / load.steps
        ratio = own / sum(alone.values())
        told = ", ".join(f"{role} {1e3 * s:.4g} ms" for role, s in alone.items())
        yield self._asked(
            f"mfm-g step, n = {load.n}, N = {DRAWS}, bf16",
            f"{1e3 * own:.4g} ms = {ratio:.2f} of the sum of its parts",
            f"<= {PARTS}",
            ratio <= PARTS,
            f"{told}; {self.world.task.layers}",
        )
        yield Row("the same step in a plain loop", f"{1e3 * plain:.4g} ms, ours {own / plain:.2f}")

    def compiled(self) -> Iterator[Row]:
        """What compiling would change, where it takes no compiler of C++."""
        if not self.on_card:
            yield Row("forward compiled", "needs a CUDA device")
            return
        parts = parts_of(self.world, self.sizes, "bfloat16")
        for name, role in (("transformer", "flow"), ("reward", "reward")):
            part, rows = parts[role], self.load.n * DRAWS
            x, fused = part.input(rows, self.device), replace(part, run=torch.compile(part.run))
            told = self._against(part.forward, fused.forward, x)
            yield Row(f"{name}, {rows} rows, forward compiled", told)

    def _against(
        self, usual: Callable[[Tensor], object], other: Callable[[Tensor], object], x: Tensor
    ) -> str:
        """Seconds of another way to compute the same, beside those of the usual one."""
        before = seconds(lambda: usual(x), self.load.repeat)
        after = seconds(lambda: other(x), self.load.repeat)
        return f"{1e3 * after:.4g} ms = {after / before:.2f} of as it is"

    def many(self) -> Iterator[Row]:
        """N = 64 in pieces that fit."""
        method, n = MFMGradient.create(steps=5, draws=MANY), self.load.wide_n
        reset_peak()
        core_rows._FITTED.clear()
        samples, meter = self._sampled(method, n, self.load.most)
        fitted = min(core_rows._FITTED.values(), default=0)
        size = (
            f"pieces of {fitted} rows" if fitted else f"{self.load.most or n * MANY} rows at once"
        )
        yield Row(
            f"mfm-g, n = {n}, N = {MANY}, bf16",
            f"{size}, {meter.work().reward.forward / n / 5:.0f} rewards a step and sample",
            "no out-of-memory",
            bool(torch.isfinite(samples).all()),
            f"peak {peak_bytes() / 2**30:.1f} GiB" if self.on_card else "",
        )

    def methods(self) -> Iterator[Row]:
        """Every method that needs no closed form and no fit, 5 steps on tiny networks."""
        world = World.made("tiny", TINY, self.device, "cpu")
        done, wrong, absent = 0, list[str](), list[str]()
        for name, cls in sampling_methods():
            method = shortened(cls)
            if lacking(method, SPEC, world.task):
                absent.append(name)
                continue
            said = self._tried(world, method)
            done += 1
            wrong += [f"{name}: {said}"] if said else []
        yield Row(
            f"{done} methods, 5 steps, tiny networks",
            f"{done - len(wrong)} finite, rows as predicted",
            "all",
            not wrong,
            "; ".join([*wrong, f"need a closed form: {', '.join(absent)}"]),
        )

    def _tried(self, world: World, method: Method[Any]) -> str:
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

    def agreement(self) -> Iterator[Row]:
        """The device against the CPU, on the same tiny weights and noise."""
        method = MFMGradient.create(steps=5, draws=DRAWS, scale="clip")
        here = World.made("tiny", TINY, "cpu")
        there = World.made("tiny", TINY, self.device, "cpu")
        exact = self._sampled(method, 4, 0, here, "float32")[0]
        for dtype, most in (("float32", FLOAT32), ("bfloat16", BFLOAT16)):
            x = self._sampled(method, 4, 0, there, dtype)[0].cpu()
            error = float((x - exact).norm() / exact.norm())
            name = f"{self.device} {dtype} against cpu float32, tiny"
            yield Row(name, f"{error:.2g}", f"<= {most:g}", error <= most)

    def waits(self) -> Iterator[Row]:
        """How often a step makes the host wait, and where."""
        if not self.on_card:
            yield Row("host synchronisations per step", "needs a CUDA device")
            return
        steps, world = 32, World.made("tiny", TINY, self.device, "cpu")
        method = MFMGradient.create(steps=steps, draws=DRAWS)
        self._sampled(method, 4, 0, world)
        with counted_waits() as where:
            self._sampled(method, 4, 0, world)
        often = ", ".join(f"{place} {k / steps:.2g}" for place, k in where.most_common(6))
        found = f"{where.total() / steps:.3g}"
        yield Row("host synchronisations per step of mfm-g", found, note=often)

    def _asked(self, what: str, found: str, asked: str, met: bool, note: str = "") -> Row:
        """A row whose target is meant for a card."""
        return Row(what, found, asked, met if self.on_card else None, note)

    def _sampled(
        self,
        method: Method[Any],
        n: int,
        most: int = 0,
        world: World | None = None,
        dtype: str = "bfloat16",
    ) -> tuple[Tensor, Meter]:
        """The samples of a method, metered and priced as in a run."""
        meter = Meter(count_flops=True)
        problem, cell = (world or self.world).problem(method, n, dtype, meter, most)
        return sample_in_batches(method, problem, cell).x, meter

    def _plainly(self, n: int, steps: int) -> Tensor:
        """MFM-G as somebody writes it who wants these samples and nothing else."""
        task, tower = self.world.task, self.world.reward.tower
        shape, rows = task.event_shape, n * DRAWS
        x = torch.randn(n, *shape, device=self.device)
        zeros, ones = x.new_zeros(rows), x.new_ones(rows)
        grid = [0.01 + 0.99 * k / steps for k in range(steps + 1)]
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16):
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


SPEC = ProblemSpec(TINY.net.event_shape, has_decoder=True, has_flow_map=True)


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


# -- the table -------------------------------------------------------------------------------------

MET = {True: "yes", False: "NO", None: ""}


def told(row: Row) -> str:
    """A line of the table, and its note under it."""
    line = f"{row.what:46} {row.found:48} {row.asked:16} {MET[row.met]}".rstrip()
    return f"{line}\n    {row.note}" if row.note else line


def rates_path(device: str) -> Path:
    """Where `bench plan` looks for the rates of a device."""
    return rates_folder() / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def measured(bench: Bench) -> Iterator[Row]:
    """All rows, one after another; one that fails says so and the others go on."""
    for make in (bench.forward, bench.rated, bench.step, bench.many):
        yield from guarded(make)
        if bench.on_card:
            torch.cuda.empty_cache()
    for make in (bench.methods, bench.agreement, bench.waits, bench.compiled):
        yield from guarded(make)


def guarded(make: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """The rows, or one that names the error."""
    try:
        yield from make()
    except Exception as error:  # a benchmark of the others is worth having
        said = traceback.format_exception_only(error)[-1].strip()
        yield Row(make.__name__, "failed", "to run", False, said)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if anything that was asked is not met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks, for any device")
    parser.add_argument("--rates", type=Path, help="file for the rates; --tiny writes none else")
    given = parser.parse_args(arguments)
    try:
        check_device(given.device)
    except UserError:
        print(f"benchmarks.gpu needs the device {given.device}, which is not here: run it on a "
              "machine with a CUDA device, or in small with --tiny --device cpu")  # fmt: skip
        return 2
    name, started, wrong = device_name(given.device), time.perf_counter(), 0
    print(f"{name}, torch {torch.__version__}{', tiny networks' if given.tiny else ''}")
    bench = Bench(given.device, given.tiny)
    for row in measured(bench):
        wrong += row.met is False
        print(told(row), flush=True)
    path = given.rates or (None if given.tiny else rates_path(name))
    if path is not None and bench.rates:
        write_rates(path, name, bench.rates, torch=torch.__version__, sizes=bench.world.name)
        print(f"rates: {path}")
    print(f"{time.perf_counter() - started:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
