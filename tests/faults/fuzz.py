"""Malformed input of every kind, from a seed.

    python -m tests.faults.fuzz [NUMBER] [SEED] [KIND ...]

prints how many of each kind were read, refused with a sentence, or neither, and exits with 1 if
any was neither: a traceback, more than five seconds of the processor, something written outside
the one folder that may be written to.
"""

from __future__ import annotations

import io
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from bench.core.params import UserError, parse_name, respelled
from bench.plan.suite import build_suite, load_suite, shipped
from tests.faults.foreign_archives import Archives
from tests.faults.foreign_arrays import arrays
from tests.faults.foreign_files import pictures, prompts
from tests.faults.mutation import mutated
from tests.faults.watch import Watch
from tests.worlds.cheap_run import assert_same, run, tables

LONGEST = 5.0
"""Seconds of the processor that any input may take: others may be at work on the machine."""

HANGS = 120.0
"""Seconds after which nobody waits any longer."""

NAMES = ("dps:guidance=1e-2,steps=20", "mfm-g:draws=4,scale=rescale", "gmm:dimension=16", "a:b=1|2")


def suites(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A mutated suite of those that come with the package."""
    path, names = folder / "suite.yaml", sorted(shipped())
    path.write_bytes(mutated(shipped()[rng.choice(names)].read_bytes(), rng))
    return lambda: build_suite(load_suite(str(path)))


def names(rng: random.Random, folder: Path) -> Callable[[], object]:
    """A mutated name with parameters."""
    text = mutated(rng.choice(NAMES).encode(), rng).decode(errors="replace")
    return lambda: (parse_name(text), respelled(text))


class StoreFiles:
    """Damaged files of a stored run: the same command again gives the tables of before."""

    def __init__(self, folder: Path) -> None:
        self._whole = folder / "whole"
        self._before = tables(run(self._whole)[0])

    def __call__(self, rng: random.Random, folder: Path) -> Callable[[], object]:
        """A run with one to three damaged files."""
        root = folder / "damaged"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._whole, root)
        files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix not in (".lock",))
        for path in rng.sample(files, rng.randint(1, 3)):
            damage = rng.choice((mutated, lambda data, _: b"", lambda data, _: None))
            data = damage(path.read_bytes(), rng)
            path.unlink() if data is None else path.write_bytes(data)
        return lambda: assert_same(self._before, tables(run(root)[0]))


Make = Callable[[random.Random, Path], Callable[[], object]]
"""Prepares an input in a folder, and returns what a user would do with it."""


@dataclass(frozen=True)
class Kind:
    """A kind of input: who makes it, given a folder, and its share of all inputs."""

    maker: Callable[[Path], Make]
    share: float


KINDS = {
    "suites": Kind(lambda _: suites, 0.2),
    "names": Kind(lambda _: names, 0.2),
    "store files": Kind(StoreFiles, 0.02),
    "pictures": Kind(lambda _: pictures, 0.16),
    "arrays": Kind(lambda _: arrays, 0.16),
    "prompts": Kind(lambda _: prompts, 0.16),
    "archives": Kind(Archives, 0.1),
}


def fuzz(number: int, seed: int, kinds: tuple[str, ...] = tuple(KINDS)) -> dict[str, Counter[str]]:
    """How so many inputs of each kind ended; what was neither read nor refused is printed."""
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "allowed")
        folder.mkdir()
        watch = Watch(folder)
        for kind in kinds:
            with _scratch_below(folder):
                make = KINDS[kind].maker(folder)
                found[kind] = Counter()
                for k in range(max(1, round(number * KINDS[kind].share))):
                    rng = random.Random(f"{seed}/{kind}/{k}")
                    found[kind][_ended(make, rng, folder, watch, f"{kind} {k}")] += 1
    return found


@contextmanager
def _scratch_below(folder: Path) -> Iterator[None]:
    """Let whoever wants a temporary file have it below `folder`."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _ended(make: Make, rng: random.Random, folder: Path, watch: Watch, said: str) -> str:
    use = make(rng, folder)
    known, began = len(watch.outside), time.process_time()
    try:
        with watch.watching(), _ended_after(HANGS), redirect_stdout(io.StringIO()):
            use()
        end = "read"
    except UserError:
        end = "refused"
    except Exception as error:
        print(f"{said}: {type(error).__name__}: {error}"[:300])
        return "traceback"
    if watch.outside[known:]:
        print(f"{said}: wrote {watch.outside[known:]}"[:300])
        return "outside"
    if time.process_time() - began < LONGEST:
        return end
    print(f"{said}: took {time.process_time() - began:.0f} s")
    return "slow"


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """TimeoutError in what takes longer, by the clock on the wall."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


BAD = ("traceback", "slow", "outside")


def main(number: int = 5000, seed: int = 0, *kinds: str) -> int:
    """Print what became of the inputs."""
    found = fuzz(number, seed, kinds or tuple(KINDS))
    for kind, ends in found.items():
        print(f"{kind}: {sum(ends.values())} ({dict(ends)})")
    whole = Counter(end for ends in found.values() for end in ends.elements())
    print(f"{whole.total()} inputs: {dict(whole)}")
    return int(any(whole[end] for end in BAD))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3]), *sys.argv[3:]))
