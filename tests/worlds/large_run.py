"""An invented run of as many cells as asked for, in the tables that the runner leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.worlds.made_run import make_run


def large_run(folder: Path, problems: int, methods: int, budgets: int, seeds: int) -> int:
    """Cells of invented numbers, as many as asked for."""
    make_run(folder, tasks=("digits",), rewards=("class-mixture",), troubles=False)
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    cell = cells[cells["method"] == "rollout"].iloc[0]
    values = metrics[metrics["cell"] == cell["cell"]]
    count = problems * methods * budgets * seeds
    rng, grid = np.random.default_rng(0), np.indices((problems, methods, budgets, seeds))
    p, m, b, s = grid.reshape(4, -1)
    names = np.array([f"m{k:02d}" for k in range(methods)])[m]
    amount = 60.0 * 2.0**b
    many = pd.DataFrame([cell] * count).reset_index(drop=True)
    many = many.assign(
        cell=[f"{k:05x}" for k in range(count)], method=names, method_name=names, seed=s,
        reward=[f"r{k}" for k in p], budget=[f"paper-nfe={a:g}" for a in amount],
        budget_amount=amount, paper_nfe=amount, status="ok", reason="",
    )  # fmt: skip
    many.to_parquet(folder / "cells.parquet")
    rows = pd.concat([values.assign(cell=c) for c in many["cell"]], ignore_index=True)
    rows["value"] *= 1 + 0.1 * rng.standard_normal(len(rows))
    rows.to_parquet(folder / "metrics.parquet")
    pd.DataFrame({"cell": [], "reward": []}).to_parquet(folder / "samples.parquet")
    return count
