"""How methods split a budget, by default and at best: the evidence for `Method.split`.

For every method, world and budget: the default's split and up to 12 others that spend the budget,
from few values of the second effort parameter to many.  What is compared is the distance to the
tilted law (sliced W2 on mixtures, the Frechet distance of the task's features on digits); on
shapes, where no law is known, the reward.

    python -m benchmarks.splits                          all of it; results/splits.md
    python -m benchmarks.splits -m mfm-gf -w gmm-16      a part

Runs are stored under build/splits and go on where they were stopped.
"""

from __future__ import annotations

import argparse
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

POINTS, SEEDS = 12, 2
BUDGETS = (100, 500, 2000)
ROOT, TABLE = Path("build/splits"), Path("results/splits.md")
GOOD = 0.25
"""A default this much worse than the best split is marked."""


@dataclass(frozen=True)
class World:
    """A task with a reward, what is compared on it, and whether less of that is better."""

    task: str
    reward: str
    metric: str
    n: int
    less: bool = True


WORLDS = {
    "plane-linear": World("gmm-paper", "linear:strength=2.448", "sliced-w2", 1024),
    "plane-sharp": World("gmm-paper", "inverse", "sliced-w2", 1024),
    "gmm-16": World("gmm:dimension=16,map_steps=8", "linear:strength=1.811", "sliced-w2", 1024),
    "digits-class": World("digits", "class-mixture", "frechet", 256),
    "digits-template": World("digits", "template:strength=20", "frechet", 256),
    "shapes": World("shapes", "prompt:strength=30", "reward", 32, less=False),
}
METHODS = (
    "mfm-gf", "mfm-g", "rollout", "lgd-mc", "tfg", "best-of-n", "best-of-n-fewstep", "sir", "gibbs",
    "zero-order", "svdd", "mfm-search", "demon", "reno", "best-of-n-pruned",
)  # fmt: skip
"""Those with two effort parameters or more, fine-tuning apart."""


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


def planned(world: World, method: str, amount: float) -> tuple[str, list[str]] | None:
    """The default's row and the others', as a suite names them."""
    spec, plain = bind(world.task, world.reward).spec, load("methods", method).create()
    default = default_split(plain, spec, amount)
    if default is None:
        return None
    others = [named(method, values) for values in other_splits(plain, spec, amount)]
    own = named(method, default)
    return own, [own, *(other for other in dict.fromkeys(others) if other != own)]


def run(name: str, world: World, methods: list[str]) -> pd.DataFrame:
    """Run the rows, or what is missing of them, and read their metric."""
    suite = {
        "name": name, "tasks": [world.task], "rewards": [world.reward], "methods": methods,
        "seeds": SEEDS, "n": world.n, "budgets": ["none"],
    }  # fmt: skip
    ROOT.mkdir(parents=True, exist_ok=True)
    file = ROOT / f"{name}.yaml"
    file.write_text(yaml.safe_dump(suite))
    command = [sys.executable, "-m", "bench", "run", str(file), "--root", str(ROOT), "--no-track"]
    subprocess.run([*command, "--executor", "inline", "--name", name], check=False)
    results = pd.read_parquet(ROOT / name / "results.parquet")
    return results[results.metric == world.metric]


def compared(world_name: str, method: str, amount: float) -> dict[str, Any] | None:
    """One line of the table."""
    world = WORLDS[world_name]
    rows = planned(world, method, amount)
    if rows is None:
        return None
    default, every = rows
    found = run(f"{world_name}-{method}-{amount}", world, every)
    mean = found.groupby("method").value.mean().dropna()
    best = mean.idxmin() if world.less else mean.idxmax()
    own = float(mean.get(default, float("nan")))
    worse = own / mean[best] - 1 if world.less else (mean[best] - own) / abs(mean[best])
    return {
        "world": world_name, "method": method, "budget": amount, "default": default, "is": own,
        "best": best, "at best": float(mean[best]), "worse by": float(worse), "splits": len(mean),
    }  # fmt: skip


def written(lines: list[dict[str, Any]]) -> str:
    """The Markdown table, with a mark on defaults that are more than 25 % behind."""
    table = pd.DataFrame(lines)
    table["mark"] = ["" if worse <= GOOD else "behind" for worse in table["worse by"]]
    table["worse by"] = [f"{100 * worse:.0f} %" for worse in table["worse by"]]
    within = (table.mark == "").mean()
    said = f"{len(table)} defaults, {100 * within:.0f} % of them within 25 % of the best split."
    return f"{said}\n\n{in_markdown(table)}\n"


def in_markdown(table: pd.DataFrame) -> str:
    """Head, rule and rows, floats in three digits."""
    rows = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in table.values]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-m", "--method", action="append", choices=METHODS)
    parser.add_argument("-w", "--world", action="append", choices=WORLDS)
    parser.add_argument("-b", "--budget", action="append", type=int)
    asked = parser.parse_args([] if arguments is None else arguments)
    lines = []
    for world in asked.world or WORLDS:
        for method in asked.method or METHODS:
            for budget in asked.budget or BUDGETS:
                lines += [line] if (line := compared(world, method, budget)) else []
    print(written(lines))
    if not (asked.method or asked.world or asked.budget):
        TABLE.write_text("# Splits of a budget, default and best\n\n" + written(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
