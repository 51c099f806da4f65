"""How do estimators of the value's gradient converge?  Distance to the tilted law as draws grow.

    python -m benchmarks.convergence                          # gmm-paper, inverse, N up to 256
    python -m benchmarks.convergence --reward linear:a=1|1,strength=0.4873
    python -m benchmarks.convergence --most 16 --n 256 --seeds 1      # two minutes

Every curve is one method at growing N with 100 steps; `exact` gives the floor.  The slope is that
of log distance against log N by least squares, over the N whose distance is above twice the floor.
Killed and started again it continues; everything lands in `--root`, as a run with a report.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bench.core.cells import digest
from bench.plan.suite import build_suite
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.run import run_suite
from sweeps.driver import Silent

METRIC = "sliced-w2"
DRAWS = (1, 4, 16, 64, 256)
CURVES = {
    "mfm-gf:posterior=exact": 4,
    "mfm-gf": 4,
    "rollout:estimator=GF,inner_steps=16": 4,
    "rollout:estimator=G,inner_steps=16": 1,
    "mfm-g": 1,
}
"""Method, and its least N: a gradient-free estimate from one draw is the base model."""


def label(curve: str, draws: int) -> str:
    """The method with its draws and 100 steps."""
    return f"{curve}{',' if ':' in curve else ':'}draws={draws},steps=100"


def measured(given: argparse.Namespace) -> pd.DataFrame:
    """Mean and standard error of the distance, by method label."""
    rows = [(c, k) for c, least in CURVES.items() for k in DRAWS if least <= k <= given.most]
    content = {
        "name": "convergence",
        "description": "Gradient estimators at growing N.",
        "tasks": ["gmm-paper"],
        "rewards": [given.reward],
        "methods": ["exact", *(label(*row) for row in rows)],
        "budgets": ["none"],
        "seeds": given.seeds,
        "n": given.n,
    }
    name = f"convergence-{digest([given.reward, given.n, given.most])[:6]}"
    store = Store(str(given.root), name)
    run_suite(build_suite(content), store, Inline, Silent())
    results = store.table("results")
    own = results[results["metric"] == METRIC].groupby("method")["value"]
    return own.agg(["mean", "sem"])


def slope(draws: list[int], distances: list[float], floor: float) -> float:
    """Of log distance against log N where the distance is above twice the floor; NaN below two."""
    far = [(n, d) for n, d in zip(draws, distances, strict=True) if d > 2 * floor]
    if len(far) < 2:
        return math.nan
    x, y = np.log(np.array(far)).T
    return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--reward", default="inverse", help="the paper's sharp observation")
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=max(DRAWS), help="largest N")
    parser.add_argument("--root", type=Path, default=Path("runs/convergence"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(given)
    floor = float(found.loc["exact", "mean"])
    print(f"{METRIC} on gmm-paper, {given.reward}: floor {floor:.3f}, n = {given.n}")
    for curve, least in CURVES.items():
        draws = [k for k in DRAWS if least <= k <= given.most]
        own = found.loc[[label(curve, k) for k in draws]]
        told = [
            f"N={k} {m:.3f} ± {e:.3f} ({m / floor:.1f} floors)"
            for k, m, e in zip(draws, own["mean"], own["sem"], strict=True)
        ]
        fitted = slope(draws, list(own["mean"]), floor)
        print(f"{curve}\n  " + "\n  ".join(told) + f"\n  slope {fitted:.2f}")


if __name__ == "__main__":
    main()
