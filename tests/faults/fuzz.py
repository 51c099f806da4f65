"""Malformed suites, names of the grammar and store files, from a seed.

    python -m tests.faults.fuzz [NUMBER] [SEED]

prints how many of each kind were read, refused with a sentence, or neither, and exits with 1 if
any was neither: a traceback, or more than five seconds.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.core.params import UserError, parse_name, respelled
from bench.plan.suite import build_suite, load_suite, shipped
from tests.worlds.cheap_run import assert_same, run, tables

LONGEST = 5.0
"""Seconds that any input may take."""

PIECES = (
    b"[", b"{", b"]", b"}", b": ", b"- ", b"&a ", b"*a", b"!!int ", b"!!python/name:os ", b"<<: ",
    b"\xff", b"\x00", b"\x1b[31m", b"\t", b"\n", b"9" * 5000, b"1e999", b".nan", b"2001-13-41",
    b"'", b'"', b"|", b">", b"%", b"@", b"null", b"[" * 300, b"../../x", "\u202e".encode(), b"5",
)  # fmt: skip
"""What is put into a text."""

NAMES = ("dps:guidance=1e-2,steps=20", "mfm-g:draws=4,scale=rescale", "gmm:dimension=16", "a:b=1|2")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few pieces cut, doubled, put in or flipped."""
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        data = rng.choice(
            (
                data[:at] + data[to:],
                data[:to] + data[at:],
                data[:at] + rng.choice(PIECES) + data[at:],
                data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            )
        )
    return data


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


def fuzz(
    number: int, seed: int, kinds: tuple[str, ...] = ("suites", "names", "store files")
) -> dict[str, Counter[str]]:
    """How so many inputs of each kind ended; what was neither read nor refused is printed."""
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        makers = {"suites": suites, "names": names}
        for kind in kinds:
            make = makers[kind] if kind in makers else StoreFiles(folder)
            found[kind] = Counter(
                _ended(make, random.Random(f"{seed}/{kind}/{k}"), folder, f"{kind} {k}")
                for k in range(number if kind in makers else max(1, number // 25))
            )
    return found


def _ended(
    make: Callable[[random.Random, Path], Callable[[], object]],
    rng: random.Random,
    folder: Path,
    said: str,
) -> str:
    began = time.monotonic()
    try:
        make(rng, folder)()
        end = "read"
    except UserError:
        end = "refused"
    except Exception as error:
        print(f"{said}: {type(error).__name__}: {error}"[:300])
        return "traceback"
    return end if time.monotonic() - began < LONGEST else "slow"


def main(number: int = 2000, seed: int = 0) -> int:
    """Print what became of the inputs."""
    found = fuzz(number, seed)
    for kind, ends in found.items():
        print(f"{kind}: {sum(ends.values())} ({dict(ends)})")
    return int(any(ends["traceback"] or ends["slow"] for ends in found.values()))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
