"""What a row of the table of a GPU is made of: sizes, devices, networks, times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.core.accelerator import settle
from bench.core.metering import Meter
from bench.core.methods import Method
from bench.runner.cell import sample_in_batches
from benchmarks.gpu_networks import TINY, Sizes, World


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

    def asked(self, what: str, found: str, asked: str, met: bool, note: str = "") -> Row:
        """A row whose target is meant for a card."""
        return Row(what, found, asked, met if self.on_card else None, note)

    def sampled(
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
