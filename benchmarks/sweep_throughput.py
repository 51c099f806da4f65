"""What does the machinery of a sweep cost, and are two workers twice as fast as one?

    python -m benchmarks.sweep_throughput                                  # cells of 5 s or more
    python -m benchmarks.sweep_throughput --trials 6 --target 0.3 --rounds 1     # under a minute

Sweeps with one and with two workers take turns in one Ray session.  A sweep is timed from when its
actors are warm, that is from when every worker has brought back a cell.  Overhead is the time per
trial that does not pass inside its cell.  Exit code 1 if a figure misses what is asked.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from bench.record.attempt import Attempt
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.executors.ray import RayTune
from bench.runner.executors.ray_cluster import cluster
from sweeps.driver import Silent, run_sweep
from sweeps.spec import Spec
from sweeps.study import Study

OVERHEAD = 1.0
"""Seconds per trial beyond the cell that are allowed."""

SPEEDUP = 1.7
"""Throughput of two workers in that of one that is asked."""


def spec(n: int, trials: int, seed: int) -> Spec:
    """Trials of one cell each that cost the same whatever is proposed, one thread each."""
    return Spec(
        "gmm-paper",
        "inverse",
        ("dps",),
        "paper-nfe=300",
        objectives=("reward",),
        trials=trials,
        sampler="tpe:startup=4",
        seed=seed,
        tuning_seeds=1,
        n=n,
        space={"guidance": "0.1..10:log", "scale": "off", "start": "off"},
    )


@dataclass
class Clock(Silent):
    """Notes when every cell came back and how long it took by itself."""

    came: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)

    def trial(self, study: Study, attempt: Attempt) -> None:
        """Called after a tuning cell was stored."""
        if attempt.status != "ok":
            raise SystemExit(f"a cell failed: {attempt.reason}")
        self.came.append(time.perf_counter())
        self.own.append(attempt.seconds)


@dataclass
class Timed:
    """Of one sweep: seconds per trial, and seconds per cell by itself, with warm actors."""

    period: float
    cell: float
    workers: int

    @property
    def overhead(self) -> float:
        """Seconds per trial and worker outside of cells."""
        return self.workers * self.period - self.cell


def timed(n: int, trials: int, seed: int, workers: int, root: str) -> Timed:
    """A new sweep in the session that is open."""
    clock, name = Clock(), f"{workers}-{n}-{seed}"
    asked = spec(n, trials, seed)
    run_sweep(asked, Store(root, name), lambda: RayTune(None, workers), clock, report=False)
    period = (clock.came[-1] - clock.came[workers - 1]) / (len(clock.came) - workers)
    return Timed(period, statistics.mean(clock.own[workers:]), workers)


def sized(target: float, root: str) -> int:
    """Samples per cell with which a cell takes about `target` seconds on this machine now."""
    rate = []
    for n in (1024, 4096):
        clock = Clock()
        run_sweep(spec(n, 2, 0), Store(root, f"size-{n}"), Inline, clock, report=False)
        rate.append(clock.own[-1])
    slope = max(1e-9, (rate[1] - rate[0]) / (4096 - 1024))
    return max(256, round((target - rate[0]) / slope) + 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=10, help="trials per sweep")
    parser.add_argument("--rounds", type=int, default=3, help="sweeps with one and with two each")
    parser.add_argument("--target", type=float, default=6.0, help="seconds per cell")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="sweep-throughput-") as root:
        found = measured(given, root)
    ratios = [one.period / two.period for one, two in found]
    overhead = statistics.median(one.overhead for one, _ in found)
    speedup = statistics.median(ratios)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"overhead per trial beyond the cell: {overhead:.3f} s (asked: {OVERHEAD:g} s or less)")
    print(f"two workers against one: {speedup:.2f} x (of {shown}; asked: {SPEEDUP:g} or more)")
    sys.exit(overhead > OVERHEAD or speedup < SPEEDUP)


def measured(given: argparse.Namespace, root: str) -> list[tuple[Timed, Timed]]:
    """Pairs of sweeps with one and with two workers; which goes first alternates."""
    n, found = sized(given.target, root), []
    print(f"{n} samples per cell", flush=True)
    with contextlib.ExitStack() as session:
        session.enter_context(cluster(None, 2))
        for k in range(given.rounds):
            order = (1, 2) if k % 2 == 0 else (2, 1)
            pair: dict[int, Any] = {w: timed(n, given.trials, k, w, root) for w in order}
            for w in (1, 2):
                print(
                    f"round {k + 1}, {w} worker(s): {pair[w].period:.2f} s per trial, cells of "
                    f"{pair[w].cell:.2f} s, {pair[w].overhead:.3f} s beyond them",
                    flush=True,
                )
            found.append((pair[1], pair[2]))
    return found


if __name__ == "__main__":
    main()
