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
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from bench.core.accelerator import device_name
from bench.core.devices import check_device
from bench.core.params import UserError
from bench.models.external import rates_folder
from bench.plan.rates import write_rates
from benchmarks import gpu_methods, gpu_speed
from benchmarks.gpu_bench import Bench, Row

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
    for make in (gpu_speed.forward, gpu_speed.rated, gpu_speed.step, gpu_speed.many):
        yield from guarded(make, bench)
        if bench.on_card:
            torch.cuda.empty_cache()
    last = (gpu_methods.methods, gpu_methods.agreement, gpu_methods.waits, gpu_speed.compiled)
    for make in last:
        yield from guarded(make, bench)


def guarded(make: Callable[[Bench], Iterator[Row]], bench: Bench) -> Iterator[Row]:
    """The rows, or one that names the error."""
    try:
        yield from make(bench)
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
