"""Random sequences of faults over a run of sixty cells, from a seed, and what they must not change.

    python -m tests.faults.sequences [NUMBER] [--ray NUMBER] [--seed SEED] [--start K] [--minutes M]

A driver is killed or asked to stop at random writes, syncs and renames, workers of Ray are killed,
files are damaged in between, and the same command is repeated until it ends.  No finished cell may
be lost or run again unless it was damaged, and the tables are those of a run that nothing happened
to, under either executor.  Prints what the faults hit, by executor.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.record.store import Store
from bench.runner.executors.base import Executor
from bench.runner.executors.inline import Inline
from tests.faults.drivers import Deed, Head, at_once, driven
from tests.faults.mutation import mutated
from tests.worlds.sixty_cells import NAME, assert_equal, run_sixty, take_pilots

DAMAGED = (
    *("result.json", "samples.safetensors", "scores.parquet", "metrics.json"),
    *("fitted.safetensors", "cells.parquet", "results.parquet", "suite.yaml", "projections.json"),
)
"""Files that are damaged, by name."""

OPERATIONS = 700
"""Syncs and renames of a whole run, about."""

SIGNALS = {"killed": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}


@dataclass(frozen=True)
class Setting:
    """Where the cells of a sequence run, how often at the most it is disturbed, and by what."""

    executor: Callable[[], Executor]
    rounds: int
    deeds: Mapping[str, Deed]


def inline() -> Setting:
    """In the driver, to which signals happen."""
    return Setting(Inline, 3, {name: at_once(number) for name, number in SIGNALS.items()})


def on(head: Head) -> Setting:
    """On a cluster, whose workers are killed besides."""
    from bench.runner.executors.ray import RayTune

    deeds = {**inline().deeds, "a worker killed": head.a_worker_dies}
    return Setting(lambda: RayTune(head.address), 2, deeds)


@dataclass
class Found:
    """What sequences under one executor hit and changed."""

    sequences: int = 0
    lost: int = 0
    twice: int = 0
    different: int = 0
    hit: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> bool:
        """Whether anything was changed that should not be."""
        return bool(self.lost or self.twice or self.different)

    def __str__(self) -> str:
        return (
            f"{self.sequences} sequences, {self.hit.total()} faults: {self.lost} lost, "
            f"{self.twice} twice, {self.different} different"
        )


def results(root: Path) -> dict[str, bytes]:
    """Results that are stored, by their path."""
    found = root.glob(f"{NAME}/cells/*/attempts/*/result.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


class Sequence:
    """Faults that follow each other in one run.

    Args:
        setting: where its cells run.
        root: where the run lies.
        rng: decides what happens.
        hit: counts it.
    """

    def __init__(self, setting: Setting, root: Path, rng: random.Random, hit: Counter[str]) -> None:
        self.setting, self.root, self.rng, self.hit = setting, root, rng, hit
        self.kept: dict[str, bytes] = {}
        self.spoilt: set[str] = set()
        self.lost = self.again = 0

    def disturb(self) -> None:
        """One to a few drivers that something happens to, and files damaged between them."""
        for _ in range(self.rng.randint(1, self.setting.rounds)):
            name = self.rng.choice(sorted(self.setting.deeds))
            self._drive(self.setting.deeds[name], name, self.rng.randrange(OPERATIONS))
            self._look()
            if self.kept and self.rng.random() < 0.5:
                self._damage()

    def end(self) -> tuple[int, int]:
        """Repeat the command until it ends: (cells that were lost, cells that ran again)."""
        self._drive(None, "", 0)
        self._look()
        return self.lost, self.again

    def _drive(self, deed: Deed | None, name: str, after: int) -> None:
        def drive() -> object:
            return run_sixty(self.root, self.setting.executor)

        ended = driven(drive, deed, after)
        if deed is not None:
            self.hit[f"{name} in a {ended.said}" if ended.said else "the end"] += 1

    def _look(self) -> None:
        """Count what was finished before and is not, or is something else."""
        now = results(self.root)
        gone = [name for name, data in self.kept.items() if now.get(name) != data]
        for name in gone:
            print(f"{name} was finished, and is {'another' if name in now else 'gone'}")
        self.lost += len(gone)
        attempts = Counter(self._cell(name) for name in now)
        self.again = sum(n > 1 for cell, n in attempts.items() if cell not in self.spoilt)
        self.kept = {n: data for n, data in now.items() if self._cell(n) not in self.spoilt}

    @staticmethod
    def _cell(result: str) -> str:
        """The folder of a result's cell."""
        return str(Path(result).parents[2])

    def _damage(self) -> None:
        """A file changes, or is empty; what it belongs to need not be kept, now or later."""
        found = sorted(p for name in DAMAGED for p in self.root.rglob(name))
        path = self.rng.choice(found)
        path.write_bytes(self.rng.choice((mutated(path.read_bytes(), self.rng), b"")))
        self.hit[f"damaged {path.name}"] += 1
        self.spoilt |= {c for c in map(self._cell, self.kept) if path.is_relative_to(self.root / c)}
        self.kept = {n: data for n, data in self.kept.items() if self._cell(n) not in self.spoilt}


def one(seed: str, whole: Store, root: Path, setting: Setting, found: Found) -> None:
    """One sequence; every second one measures its seconds anew, amid the faults."""
    rng = random.Random(seed)
    same_pilots = rng.random() < 0.5
    if same_pilots:
        take_pilots(whole, root)
    sequence = Sequence(setting, root, rng, found.hit)
    found.sequences += 1
    try:
        sequence.disturb()
        lost, twice = sequence.end()
        store, outcome = run_sixty(root)
        found.lost += lost + outcome.executed
        found.twice += twice
        assert_equal(whole, store, same_pilots)
    except Exception as error:
        found.different += 1
        print(f"sequence {seed}: {type(error).__name__}: {str(error)[-1000:]}", flush=True)


def sequences(
    numbers: Mapping[str, int], seed: int = 0, start: int = 0, minutes: float = 1e9
) -> Iterator[tuple[str, int, Found]]:
    """So many sequences by executor, in turn; yields what was found so far after each."""
    found = {name: Found() for name in numbers}
    until = time.monotonic() + 60 * minutes
    with ExitStack() as open_ones, tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        whole, _ = run_sixty(Path(scratch, "whole"))
        settings = {"inline": inline()}
        if numbers.get("ray"):
            settings["ray"] = on(open_ones.enter_context(Head()))
        for name, number in numbers.items():
            for k in range(start, number):
                if time.monotonic() > until:
                    return
                root = Path(scratch, f"{name}-{k}")
                one(f"{seed}/{name}/{k}", whole, root, settings[name], found[name])
                yield name, k, found[name]


def main(given: list[str]) -> int:
    """Run sequences, and print what they hit and what they changed."""
    asked = argparse.ArgumentParser(prog="python -m tests.faults.sequences")
    asked.add_argument("number", type=int, nargs="?", default=20, help="under inline")
    asked.add_argument("--ray", type=int, default=0, help="under Ray, which takes longer")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--start", type=int, default=0, help="the first sequence of each")
    asked.add_argument("--minutes", type=float, default=1e9, help="begin none after so many")
    said = asked.parse_args(given)
    last: dict[str, Found] = {}
    began = time.monotonic()
    numbers = {"inline": said.number, "ray": said.ray}
    for name, k, found in sequences(numbers, said.seed, said.start, said.minutes):
        last[name] = found
        print(f"{time.monotonic() - began:6.0f} s  {name} {k}: {found}", flush=True)
    for name, found in last.items():
        print(f"{name}: {found}")
        for what, count in found.hit.most_common():
            print(f"{count:5} {what}")
    return int(any(found.bad for found in last.values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that drivers and clusters end too
    sys.exit(main(sys.argv[1:]))
