"""How good are sweeps?  A short sweep against the best of a fine grid, on fresh seeds.

    python -m benchmarks.sweep_quality                       # 40 trials, 400 points, 5 seeds
    python -m benchmarks.sweep_quality --trials 20 --grid 50 --seeds 2

`dps` (guidance) and `mfm-g` (guidance, and the split of the budget between steps and draws) are
tuned for the distance to the tilted law of the paper's mixture.  The grid is evaluated on common
noise and its ten best points are scored again, on the seeds on which the sweeps are scored.  Killed
and started again it continues.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from bench.core.cells import digest
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from sweeps.driver import Silent, Swept, run_sweep
from sweeps.space import parse_change
from sweeps.spec import Spec

TASK, OBJECTIVE = "gmm-paper", "sliced-w2"
METHODS = ("dps", "mfm-g")
CLOSE = 0.1
FINALISTS = 10
GRID_SEED = 999
"""The grid's common noise is that of no sweep."""

SPACE = ("guidance=0.05..10:log", "scale=off", "start=off", "noise_level=off")
OWN = {"dps": ("size=off",), "mfm-g": ("inner_steps=off",)}


def spec(given: argparse.Namespace, method: str, **changes: Any) -> Spec:
    """The sweep of one method."""
    space = dict(map(parse_change, (*SPACE, *OWN[method])))
    own: dict[str, Any] = {"trials": given.trials, "tuning_seeds": given.tuning_seeds, **changes}
    return Spec(
        TASK, given.reward, (method,), given.budget, (OBJECTIVE,), n=given.n, space=space, **own
    )


def folder(given: argparse.Namespace) -> Path:
    """One folder per question, so that reductions do not meet."""
    asked = [given.reward, given.budget, given.n, given.tuning_seeds]
    return Path(given.root) / digest(asked)[:8]


def swept(given: argparse.Namespace, asked: Spec, name: str) -> Swept:
    print(f"{name} ...", flush=True)
    return run_sweep(asked, Store(str(folder(given)), name), Inline, Silent(), report=False)


def levels(given: argparse.Namespace, method: str) -> int:
    """Levels per axis with which the grid has about as many points as asked for."""
    from bench.runner.pilots import Pilots
    from sweeps.planner import Planner

    space = Planner(spec(given, method), method, Pilots()).space
    found = 2
    while space.grid_size(found + 1) <= given.grid:
        found += 1
    return found


def finalists(given: argparse.Namespace, method: str) -> list[str]:
    """The ten best points of the grid."""
    count = levels(given, method)
    asked = spec(
        given,
        method,
        trials=given.grid + 1,
        tuning_seeds=1,
        seed=GRID_SEED,
        sampler=f"grid:levels={count}",
    )
    done = swept(given, asked, f"grid-{method}-{count}")
    table = done.store.table("trials")
    points = table[(table["state"] == "complete") & (table["trial"] > 0)]
    return list(points.sort_values("value")["label"].drop_duplicates()[:FINALISTS])


def tuned(given: argparse.Namespace, method: str) -> list[str]:
    """What the sweep of every seed selects."""
    runs = [
        swept(given, spec(given, method, seed=seed), f"sweep-{method}-{given.trials}-{seed}")
        for seed in range(given.seeds)
    ]
    return [run.studies[0].best.label for run in runs if run.studies[0].best is not None]


def rescored(given: argparse.Namespace, labels: list[str]) -> dict[str, float]:
    """Mean distance of every configuration on the fresh seeds."""
    content = {
        "name": "fresh",
        "tasks": [TASK],
        "rewards": [given.reward],
        "methods": list(dict.fromkeys(labels)),
        "budgets": [given.budget],
        "seeds": given.fresh,
        "n": given.n,
    }
    store = Store(str(folder(given)), "fresh")
    run_suite(build_suite(content), store, Inline, Silent())
    results = store.table("results")
    own = results[results["metric"] == OBJECTIVE]
    found: dict[str, float] = own.groupby("method")["value"].mean().to_dict()
    return found


def figures(given: argparse.Namespace) -> dict[str, Any]:
    """Per method: the default, the best of the grid, and every sweep, on the fresh seeds."""
    sweeps = {method: tuned(given, method) for method in METHODS}
    grids = {method: finalists(given, method) for method in METHODS}
    every = [label for m in METHODS for label in (m, *grids[m], *sweeps[m])]
    scores = rescored(given, every)
    out: dict[str, Any] = {}
    for method in METHODS:
        best = min(grids[method], key=lambda label: scores[label])
        ratios = [scores[label] / scores[best] for label in sweeps[method]]
        out[method] = {
            "default": scores[method],
            "grid": {"label": best, "score": scores[best]},
            "sweeps": [{"label": x, "score": scores[x]} for x in sweeps[method]],
            "ratios": ratios,
            "close": sum(ratio <= 1 + CLOSE for ratio in ratios),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--grid", type=int, default=400, help="points of the grid")
    parser.add_argument("--seeds", type=int, default=5, help="sweeps per method")
    parser.add_argument("--tuning-seeds", type=int, default=2)
    parser.add_argument("--fresh", type=int, default=5, help="seeds on which all are scored")
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--budget", default="paper-nfe=200")
    parser.add_argument("--reward", default="linear", help="its optimum lies inside the space")
    parser.add_argument("--root", type=Path, default=Path("runs/sweep-quality"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = figures(given)
    for method, own in found.items():
        print(f"{method}: {OBJECTIVE} {own['default']:.4f} by default")
        print(f"  best of the grid {own['grid']['score']:.4f}  {own['grid']['label']}")
        for one, ratio in zip(own["sweeps"], own["ratios"], strict=True):
            print(f"  sweep {one['score']:.4f} = {ratio:.3f} x grid  {one['label']}")
        print(f"  within {CLOSE:.0%} of the grid's best: {own['close']} of {len(own['ratios'])}")
    (folder(given) / "figures.json").write_text(
        json.dumps(found, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
