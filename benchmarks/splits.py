"""How methods split a budget, by default and at best: the evidence for `Method.split`.

For every method, world and budget: the default's split and up to 12 others that spend the budget,
from few values of the second effort parameter to many.  Methods that aim at the tilted law are
compared by their distance to it where the world has one, all others by their reward.

    python -m benchmarks.splits                          all of it; results/splits.md
    python -m benchmarks.splits -w gmm-16 -b 100         a part, printed
    python -m benchmarks.splits --table                  results/splits.md from what is stored

Runs are stored under build/splits, one per world and budget, and go on where they were stopped.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench.core.methods import Method
from bench.core.plugins import load
from bench.core.values import ProblemSpec
from bench.plan.binding import bind
from bench.plan.matching import bounds, match
from benchmarks.splits_table import Line, written

POINTS, SEEDS = 12, 3
BUDGETS = (100, 500, 2000)
ROOT, TABLE = Path("build/splits"), Path("results/splits.md")
PRIOR = "prior:steps=20"
"""The base model, from whose reward a gain is counted."""

FLOOR = "exact"
"""Draws of the tilted law itself, where it is known: no method can be told to be nearer."""


@dataclass(frozen=True)
class World:
    """A task with a reward, samples per cell, and the metric of a distance to the law, if any."""

    task: str
    reward: str
    n: int
    distance: str = ""


WORLDS = {
    "plane-linear": World("gmm-paper", "linear:strength=2.448", 1024, "sliced-w2"),
    "plane-sharp": World("gmm-paper", "inverse", 1024, "sliced-w2"),
    "gmm-16": World("gmm:dimension=16,map_steps=8", "linear:strength=1.811", 1024, "sliced-w2"),
    "digits-class": World("digits", "class-mixture", 256, "frechet"),
    "digits-template": World("digits", "template:strength=20", 256),
    "shapes": World("shapes", "prompt:strength=30", 32),
}
AIM = ("mfm-gf", "mfm-g", "rollout", "lgd-mc", "sir", "gibbs", "svdd")
"""Methods that aim at the tilted law."""

MAXIMISE = (
    "tfg", "best-of-n", "best-of-n-fewstep", "zero-order", "mfm-search", "demon", "reno",
    "best-of-n-pruned",
)  # fmt: skip
"""Methods that look for a high reward.  Both lists are of two effort parameters or more."""


def named(name: str, values: dict[str, Any]) -> str:
    """`name:key=value,...`."""
    return name + ":" + ",".join(f"{key}={value}" for key, value in sorted(values.items()))


def default_split(method: Method[Any], spec: ProblemSpec, amount: float) -> dict[str, Any] | None:
    """What matching chooses, or None where the budget does not suffice."""
    found = match(method, spec, amount, lambda work: work.cost("paper-nfe"), {})
    return found.values if found.feasible else None


def other_splits(method: Method[Any], spec: ProblemSpec, amount: float) -> Iterator[dict[str, Any]]:
    """Values of the second effort parameter on a log scale, each with the first that it leaves."""
    first, second, *rest = method.effort
    low, high = bounds(method, second)
    for step in range(POINTS):
        value = round(low * (max(low, min(high, amount)) / low) ** (step / (POINTS - 1)))
        fixed = method.with_params(**{second: value})
        pinned = dict.fromkeys([second, *rest])
        found = match(fixed, spec, amount, lambda work: work.cost("paper-nfe"), pinned)
        if found.feasible and found.use >= 0.8:
            yield {first: found.values[first], second: value}


def rows_of(world: World, method: str, amount: float) -> list[str]:
    """The default's row and then the others', as a suite names them; none where it has no split."""
    spec, plain = bind(world.task, world.reward).spec, load("methods", method).create()
    default = default_split(plain, spec, amount)
    if default is None:
        return []
    others = (named(method, values) for values in other_splits(plain, spec, amount))
    return list(dict.fromkeys([named(method, default), *others]))


def suite_of(name: str, world: World, rows: dict[str, list[str]]) -> dict[str, Any]:
    """The suite of all rows in one world at one budget, which every row spends by itself."""
    methods = [PRIOR, FLOOR, *(row for each in rows.values() for row in each)]
    return {
        "name": name, "tasks": [world.task], "rewards": [world.reward], "methods": methods,
        "seeds": SEEDS, "n": world.n, "budgets": ["none"],
    }  # fmt: skip


def run(name: str, suite: dict[str, Any]) -> None:
    """Run the rows, or what is missing of them."""
    ROOT.mkdir(parents=True, exist_ok=True)
    file = ROOT / f"{name}.yaml"
    file.write_text(yaml.safe_dump(suite))
    command = [sys.executable, "-m", "bench", "run", str(file), "--root", str(ROOT), "--no-track"]
    subprocess.run([*command, "--executor", "inline", "--name", name], check=False)


def lines(world_name: str, amount: int, rows: dict[str, list[str]]) -> Iterator[Line]:
    """A line of the table per method, of what is stored of its rows."""
    world, file = WORLDS[world_name], ROOT / f"{world_name}-{amount}" / "results.parquet"
    found = pd.read_parquet(file)
    good = found[found.status == "ok"]
    means = good.pivot_table("value", ["metric", "method"], "seed")
    base = float(means.loc["reward", PRIOR].mean())
    nothing = [math.nan] * len(means.columns)
    for method, own in rows.items():
        by_distance = bool(world.distance) and method in AIM
        metric = world.distance if by_distance else "reward"
        seen = means.loc[metric].T
        runs = {row: list(seen[row]) if row in seen else nothing for row in own}
        if own:
            floor = float(seen[FLOOR].mean()) if by_distance and FLOOR in seen else math.nan
            yield Line(world_name, method, amount, by_distance, own[0], runs, base, floor)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-m", "--method", action="append", choices=(*AIM, *MAXIMISE))
    parser.add_argument("-w", "--world", action="append", choices=WORLDS)
    parser.add_argument("-b", "--budget", action="append", type=int)
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args([] if arguments is None else arguments)
    found: list[Line] = []
    for world in asked.world or WORLDS:
        for amount in asked.budget or BUDGETS:
            name, methods = f"{world}-{amount}", asked.method or (*AIM, *MAXIMISE)
            rows = {method: rows_of(WORLDS[world], method, amount) for method in methods}
            if not asked.table:
                run(name, suite_of(name, WORLDS[world], rows))
            if (ROOT / name / "results.parquet").exists():
                found += lines(world, amount, rows)
    text = written(found, SEEDS)
    print(text)
    if not (asked.method or asked.world or asked.budget):
        TABLE.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
