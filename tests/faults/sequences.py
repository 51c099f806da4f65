"""Random sequences of faults over one run, from a seed, and what they must not change.

    python -m tests.faults.sequences [NUMBER] [SEED]

A driver is killed at random writes, syncs and renames, files are damaged in between, and the same
command is repeated until it ends.  No finished cell may be lost or run again unless it was damaged,
and the tables are those of a run that nothing happened to.  Prints what the faults hit.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.fuzz import mutated
from tests.worlds.cheap_run import assert_same, run, tables

SUITE: dict[str, Any] = {"methods": ["prior:steps=2", "exact"], "seeds": 3}
"""Six cells."""

DAMAGED = ("result.json", "samples.safetensors", "scores.parquet", "metrics.json", "cells.parquet")
"""Files that are damaged, by name."""


def killed(root: Path, after: int) -> str:
    """Run in a process that is killed at its `after`-th operation on files; says at which."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _die_at(after, write)
        try:
            run(root, **SUITE)
        finally:
            os._exit(0)
    os.close(write)
    said = b"".join(iter(lambda: os.read(read, 4096), b"")).decode()
    os.close(read)
    os.waitpid(child, 0)
    return said


def _die_at(after: int, said: int) -> None:
    """Let this process be killed in the `after`-th sync or rename."""
    left = [after]

    def dying(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                what = Path(given[1]).name if name == "rename" else "a file"
                os.write(said, f"{name} of {what}".encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return own(*given)

        return operation

    os.fsync = dying("sync", os.fsync)
    Path.replace = dying("rename", Path.replace)  # type: ignore[method-assign]


def results(root: Path) -> dict[str, bytes]:
    """Results that are stored, by their path."""
    found = root.glob("cheap/cells/*/attempts/*/result.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def sequence(rng: random.Random, root: Path, hit: Counter[str]) -> tuple[int, int]:
    """One sequence; returns (cells that were lost, cells that ran again without a reason)."""
    spoilt: set[str] = set()
    before: dict[str, bytes] = {}
    for _ in range(rng.randint(1, 4)):
        said = killed(root, rng.randrange(60))
        hit[said or "the end"] += 1
        now = results(root)
        assert before.keys() - now.keys() <= spoilt, "a finished cell was lost"
        if now and rng.random() < 0.5:
            path = rng.choice(sorted(p for name in DAMAGED for p in root.rglob(name)))
            path.write_bytes(rng.choice((mutated(path.read_bytes(), rng), b"")))
            hit[f"damaged {path.name}"] += 1
            spoilt |= {name for name in now if path.is_relative_to((root / name).parents[2])}
        before = {name: data for name, data in now.items() if name not in spoilt}
    run(root, **SUITE)
    after = results(root)
    lost = sum(after.get(name) != data for name, data in before.items())
    attempts = Counter(Path(name).parents[2].name for name in after)
    again = sum(count > 1 for count in attempts.values())
    return lost, again


def main(number: int = 20, seed: int = 0) -> int:
    """Run so many sequences and print what they hit and what they changed."""
    hit: Counter[str] = Counter()
    lost = again = other = 0
    with tempfile.TemporaryDirectory() as scratch:
        whole = tables(run(Path(scratch, "whole"), **SUITE)[0])
        for k in range(number):
            root = Path(scratch, str(k))
            gone, twice = sequence(random.Random(f"{seed}/{k}"), root, hit)
            lost, again = lost + gone, again + twice
            try:
                assert_same(whole, tables(run(root, **SUITE)[0]))
            except AssertionError as error:
                other += 1
                print(f"sequence {k}: other tables: {str(error)[:200]}")
    print(
        f"{number} sequences, {hit.total()} faults: {lost} lost, {again} twice, {other} different"
    )
    for what, count in hit.most_common():
        print(f"{count:5} {what}")
    return int(bool(lost or again or other))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
