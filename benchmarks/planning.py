"""How long `bench plan` takes for a suite, in fresh processes; against another checkout if named.

    python -m benchmarks.planning [SUITE] [--against CHECKOUT [--python PYTHON]]

Both sides are asked for the same plan in adjacent pairs, so that a slow minute hits both; processor
time of the whole process counts, imports included.  With --against the plans are compared as well.
Promised: `ledger`, 1,155 rows, in 3 seconds on a quiet machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent.parent


def planned(python: str, checkout: Path, suite: str) -> tuple[float, float, bytes]:
    """Processor seconds and wall-clock seconds of one plan, and what it printed."""
    with tempfile.TemporaryDirectory() as root:
        command = [python, "-m", "bench", "plan", suite, "--json", "--root", root]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=checkout, check=True, capture_output=True)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, wall, done.stdout


def main() -> None:
    """Read the command line, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", nargs="?", default="ledger")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--python", default=sys.executable, help="its interpreter")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    sides = [(sys.executable, HERE)]
    if given.against:
        sides.append((given.python, given.against.resolve()))
    runs = [[planned(*side, given.suite) for side in sides] for _ in range(given.pairs)]
    for index, (_, checkout) in enumerate(sides):
        spent, wall = (statistics.median(run[index][k] for run in runs) for k in (0, 1))
        name = "here" if checkout == HERE else str(given.against)
        print(f"{given.suite}, {name}: {spent:.2f} s of processor time, {wall:.2f} s by the clock")
    if given.against:
        ratio = statistics.median(here[0] / there[0] for here, there in runs)
        same = all(here[2] == there[2] for here, there in runs)
        print(f"ratio {ratio:.3f}; the plans are {'the same' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
