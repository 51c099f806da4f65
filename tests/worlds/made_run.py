"""A small invented run, in the tables that the runner leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file
from scipy.spatial.distance import pdist

BUDGETS = {"paper-nfe=100": 100.0, "paper-nfe=500": 500.0}
SEEDS = (0, 1, 2)
DIVERSITY = 3.1
"""Mean distance between two samples."""

# method: (reward, judge, sliced-w2, gain of the large budget), in the order of a suite.
MIXTURE = {
    "prior": (-9.0, np.nan, 2.10, 0.0),
    "exact": (0.19, np.nan, 0.105, 0.0),
    "oracle": (0.15, np.nan, 0.140, 0.02),
    "best-of-n": (0.35, np.nan, 0.95, 0.15),
    "best-of-n-fewstep": (0.42, np.nan, 1.05, 0.12),
    "dps": (0.61, np.nan, 1.42, 0.01),
    "rollout": (0.02, np.nan, 0.33, 0.10),
    "mfm-g:draws=4": (0.11, np.nan, 0.24, 0.05),
    "mfm-gf": (0.16, np.nan, 0.19, 0.04),
}
DIGITS = {
    "prior": (-2.3, -2.35, 0.52, 0.0),
    "best-of-n": (-1.2, -1.30, 0.31, 0.20),
    "best-of-n-fewstep": (-1.0, -1.25, 0.36, 0.25),
    "dps": (-0.42, -1.75, 0.64, 0.10),
    "rollout": (-1.4, -1.45, 0.28, 0.12),
    "mfm-g:draws=4": (-0.66, -0.80, 0.22, 0.15),
    "mfm-gf": (-0.95, -1.02, 0.20, 0.18),
    "someone-elses:width=3": (-0.88, -0.99, 0.27, 0.05),
    "mfm-ft": (-0.75, -0.85, 0.25, 0.02),
}
# What the methods and metrics of this run declare; one method declares nothing.
METHODS = {
    "prior": {"standing": "reference", "tag": "untilted", "colour": "#8a8a8a"},
    "exact": {"standing": "closed form", "tag": "floor", "colour": "#222222"},
    "oracle": {"standing": "closed form", "tag": "closed form", "colour": "#cc79a7"},
    "best-of-n": {"standing": "baseline", "best_of": "candidates"},
    "best-of-n-fewstep": {"standing": "baseline", "best_of": "candidates"},
    "dps": {"standing": "baseline", "caveat": "it is biased, regardless of compute"},
    "rollout": {"standing": "baseline"},
    "mfm-g": {"summary": "one-step draws, with gradients", "colour": "#0072b2"},
    "mfm-gf": {},
    "mfm-ft": {},
}
METRICS = {
    "reward": ("target", 10, False),
    "judge": ("judge", 20, False),
    "sliced-w2": ("distance", 50, True),
    "mmd2": ("distance", 60, False),
    "frechet": ("distance", 70, False),
    "mmd2-features": ("distance", 80, False),
    "mmd2-data": ("shift", 110, False),
    "diversity": ("diversity", 130, False),
}
PROBLEMS = {
    ("gmm-paper", "inverse", 1.0): MIXTURE,
    ("digits", "class-mixture", 1.0): DIGITS,
    ("digits", "template:index=3", 20.0): DIGITS,
}


@dataclass(frozen=True)
class Made:
    """Tables under construction."""

    cells: list[dict[str, object]]
    metrics: list[dict[str, object]]
    samples: list[dict[str, object]]


def make_run(
    folder: Path,
    tasks: tuple[str, ...] = ("gmm-paper", "digits"),
    rewards: tuple[str, ...] = ("inverse", "class-mixture", "template:index=3"),
    pending: bool = False,
    troubles: bool = True,
) -> Path:
    """A run folder as the runner leaves it; `pending` stops it among the digits."""
    rng, made = np.random.default_rng(7), Made([], [], [])
    folder.mkdir(parents=True)
    chosen = {k: v for k, v in PROBLEMS.items() if k[0] in tasks and k[1] in rewards}
    for (task, reward, strength), methods in chosen.items():
        for method, truth in methods.items():
            for budget in BUDGETS:
                for seed in SEEDS:
                    key = (task, reward, strength, method, budget, seed)
                    state = status_of(key, troubles)
                    if pending and task == "digits" and (seed > 0 or method == "mfm-gf"):
                        state = ("pending", "")
                    add_cell(folder, made, key, truth, state, rng)
    for name in ("cells", "metrics", "samples"):
        pd.DataFrame(getattr(made, name)).to_parquet(folder / f"{name}.parquet")
    (folder / "suite.yaml").write_text("name: quickstart\ntasks: [gmm-paper, digits]\nseeds: 3\n")
    return folder


def without_distances(folder: Path) -> None:
    """A run in which nothing tells how far a method is from the law: its reward decides."""
    metrics = pd.read_parquet(folder / "metrics.parquet")
    metrics[metrics["measures"] != "distance"].to_parquet(folder / "metrics.parquet")


def status_of(key: tuple[object, ...], troubles: bool) -> tuple[str, str]:
    task, reward, _, method, budget, seed = key
    if troubles and method == "rollout" and reward == "class-mixture" and seed == 1:
        return "failed", "RuntimeError: <singular> matrix"
    if troubles and method == "rollout" and task == "digits" and budget == "paper-nfe=100":
        return "infeasible", "needs at least paper-nfe=110"
    return "ok", ""


def add_cell(folder, made, key, truth, state, rng) -> None:
    task, reward, strength, method, budget, seed = key
    cell, (status, reason) = f"{len(made.cells):04x}", state
    n, name = (2048 if task == "gmm-paper" else 128), method.partition(":")[0]
    amount = BUDGETS[budget]
    matched = {"draws": 4, "steps": int(amount / 5)}
    use = 0.01 if name == "exact" else 0.84 if name == "best-of-n" and amount == 100 else 1.0
    nfe, finetuned = use * amount, name == "mfm-ft"
    mapped = name.startswith("mfm-g") or name == "best-of-n-fewstep"
    sampling = 0.004 * nfe * (3 if name == "rollout" else 1) + 0.3
    measured = {
        "utilisation": use,
        "underused": use < 0.9,
        "paper_nfe": nfe,
        "model_nfe": nfe / 2,
        "drift": 0.0,
        "seconds": sampling,
        "cell_seconds": sampling + 1.5,
        "peak_bytes": 2**20 * (40 + nfe),
        "sample_flow_forward": nfe * n * (0.5 if "mfm" in name or name == "dps" else 0.8),
        "sample_flow_backward": nfe * n * 0.2 * (name == "dps"),
        "sample_map_forward": nfe * n * 0.2 * mapped,
        "sample_map_backward": nfe * n * 0.2 * (name == "mfm-g"),
        "sample_reward_forward": nfe * n * 0.1 * (name != "prior"),
        "fit_paper_nfe": 250_000.0 if finetuned else 0.0,
        "map_paper_nfe": 2_000_000.0 if mapped else 0.0,
    }
    made.cells.append(
        {
            "cell": cell,
            "task": task,
            "reward": reward,
            "strength": strength,
            "condition": "",
            "method": method,
            "method_name": name,
            **{f"method_{word}": said for word, said in METHODS.get(name, {}).items()},
            "task_summary": "a mixture" if task == "gmm-paper" else "",
            "task_noun": "point" if task == "gmm-paper" else "image",
            "params": json.dumps({"scale": "exact"} | matched),
            "matched": json.dumps({} if name == "exact" else matched),
            "budget": budget,
            "budget_unit": "paper-nfe",
            "budget_amount": amount,
            "seed": seed,
            "n": n,
            "status": status,
            "reason": reason,
            "predicted_paper_nfe": nfe,
            "expected": nfe,
            "device": "cpu (Xeon)",
            "threads": 1,
            "version": "0.1.0",
            "torch": "2.15.0",
            "attempt": int(status != "pending"),
            "finished": f"2026-11-24T12:{seed:02d}:07+00:00" if status == "ok" else None,
            **(measured if status == "ok" else {}),
        }
    )
    if status == "ok":
        add_metrics(made, cell, key, truth, n, rng)
        if seed == 0 and (task == "digits" or amount == 500):
            add_samples(folder, made, cell, task, name, truth)


def add_metrics(made, cell, key, truth, n, rng) -> None:
    task, reward, _, _, budget, seed = key
    value, judge, distance, gain = truth
    step = gain * (budget == "paper-nfe=500")
    # dps is made to over-optimise: with more compute its judge falls.
    judged = judge - step * 3 if truth == DIGITS["dps"] else judge + step
    shared = np.random.default_rng(seed).normal(0, 0.03)
    found = {"reward": value + step + shared, "judge": judged + shared}
    if task == "gmm-paper":
        found |= {"sliced-w2": distance - step * 0.3, "mmd2": distance**2 / 9 - 0.001}
    else:
        sharp = "template" in reward
        found |= {"frechet": np.nan if sharp else distance - step * 0.3}
        found |= {"mmd2-features": np.nan if sharp else distance / 50, "mmd2-data": 0.03}
    found |= {"diversity": DIVERSITY - 0.4 * step}
    notes = {
        "judge": "" if np.isfinite(judge) else "this reward has no judge",
        "frechet": "only 143 effective real digits under this tilt (at least 200 are needed)",
        "mmd2-features": "only 143 effective real digits under this tilt (at least 200 are needed)",
    }
    higher = ("reward", "judge")
    directions = dict.fromkeys(higher, "higher") | {"diversity": "none", "mmd2-data": "none"}
    for metric, x in found.items():
        jitter = rng.normal(0, 0.02 * abs(x) + 1e-4)
        made.metrics.append(
            {
                "cell": cell,
                "metric": metric,
                "version": "1",
                "implementation": "torchmetrics" if metric == "frechet" else "tiltbench",
                "direction": directions.get(metric, "lower"),
                **dict(zip(("measures", "rank", "floor"), METRICS[metric], strict=True)),
                "value": x + jitter,
                "standard_error": 0.04 if metric in higher else np.nan,
                "n": n,
                "note": notes.get(metric, "") if not np.isfinite(x) else "",
            }
        )


def add_samples(folder, made, cell, task, name, truth) -> None:
    rng = np.random.default_rng(0)
    path = folder / "cells" / cell / "attempts" / "1" / "samples.safetensors"
    path.parent.mkdir(parents=True)
    if task == "gmm-paper":
        save_file({"x": mixture(rng, truth[2])}, path)
        return
    image = np.clip(128 - 127 * rng.normal(0, 1, (12, 8, 8, 1)) * truth[2], 0, 255)
    rendered = np.repeat(image, 3, -1).astype(np.uint8)
    x = rng.normal(size=(12, 64))
    x *= DIVERSITY / pdist(x).mean()
    save_file({"x": x.reshape(12, 1, 8, 8).astype(np.float32), "rendered": rendered}, path)
    for index in range(12):
        scores = {"reward": truth[0] + 0.01 * index, "judge": truth[1]}
        made.samples.append({"cell": cell, "condition": "", "index": index, "weight": 1.0} | scores)


def mixture(rng: np.random.Generator, distance: float) -> np.ndarray:
    """The paper's tilted mixture, pushed off by about `distance`."""
    means = np.array([[-2.89, -3.07], [-0.56, 0.37], [1.78, 3.81]])
    factor = np.linalg.cholesky(np.array([[0.167, 0.222], [0.222, 0.352]]))
    component = rng.choice(3, size=600, p=[0.5716, 0.3665, 0.0619])
    x = means[component] + rng.normal(size=(600, 2)) @ factor.T
    return (x + (distance - 0.1) * rng.normal(0.4, 0.6, (600, 2))).astype(np.float32)
