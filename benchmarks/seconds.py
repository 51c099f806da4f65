"""Methods matched in seconds: do they take the same time?  Ten interleaved repetitions.

Promised: the ratio of medians is within 10 % of 1.
"""

from __future__ import annotations

import statistics
import tempfile

import torch

from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.cell import Job
from bench.runner.run import pilots_of

METHODS = ["best-of-n-fewstep", "mfm-g", "dps"]
BUDGET = 0.02
REPETITIONS = 10


def main() -> None:
    torch.set_num_threads(1)
    content = {
        "name": "seconds",
        "tasks": ["digits"],
        "rewards": ["template:strength=20"],
        "n": 256,
        "methods": METHODS,
        "budgets": [f"seconds={BUDGET}"],
        "seeds": 1,
    }
    with tempfile.TemporaryDirectory() as root:
        store = Store(root, "seconds")
        store.open()
        rows = expand(build_suite(content), pilots_of(store))
    taken: dict[str, list[float]] = {row.method_label: [] for row in rows}
    for _ in range(REPETITIONS):
        for row in rows:
            attempt = Job(row.cell).run()
            taken[row.method_label].append(attempt.costs["seconds"])
    medians = {name: statistics.median(values) for name, values in taken.items()}
    for row in rows:
        median = medians[row.method_label]
        print(
            f"{row.method_label:<20} {row.matched}  median {median:.5f} s per sample, "
            f"budget {BUDGET:g}, ratio to the first {median / medians[METHODS[0]]:.3f}"
        )


if __name__ == "__main__":
    main()
