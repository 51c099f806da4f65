"""From a sweep to a preset: the best parameters with where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.params import UserError, parse_name
from bench.plan import presets
from bench.record.store import Store
from sweeps.spec import SEEDS_APART, TUNING_SEED
from sweeps.sweep_file import SWEEP, read_sweep


def apply(store: Store, name: str | None, root: str) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Write the tuned parameters of every method of a sweep as one preset.

    Returns its path and the entries.  Raises UserError for what is not a finished sweep.
    """
    if not store.has(SWEEP) or not store.has("tuning.parquet"):
        raise UserError(
            f"'{store.url}' is not a finished sweep: run 'bench sweep' to its end first"
        )
    kept = read_sweep(store)
    table = store.table("tuning")
    entries = {
        str(parse_name(row["method"])[0]): _entry(row, kept, store.url)
        for row in table.drop_duplicates("method").to_dict("records")
    }
    if len(entries) < table["method"].nunique():
        raise UserError("the sweep tuned one method twice: a preset holds a method once")
    if not entries:
        raise UserError(f"no trial of '{store.url}' completed: there is nothing to apply")
    return presets.write(name or store.name, entries, root), entries


def _entry(row: dict[Any, Any], kept: dict[str, Any], path: str) -> dict[str, Any]:
    spec = kept["spec"]
    first = TUNING_SEED + SEEDS_APART * spec["seed"]
    _, given = parse_name(row["method"])
    return {
        "params": {**given, **json.loads(row["params"])},
        "provenance": {
            "sweep": path,
            "study": row["study"],
            "trial": int(row["trial"]),
            "objective": row["objective"],
            "tuning_score": _plain(row["tuned_tuning_score"]),
            "reporting_score": _plain(row["tuned_score"]),
            "default_score": _plain(row["default_score"]),
            "optimism": _plain(row["optimism"]),
            "tuning_work": float(row["tuning_work"]),
            "unit": row["unit"],
            "task": spec["task"],
            "reward": spec["reward"],
            "budget": spec["budget"],
            "sampler": dict(kept["identity"]["sampler"]),
            "trials": int(row["trials"]),
            "tuning_seeds": [first, first + SEEDS_APART - 1],
            "versions": dict(kept["versions"]),
        },
    }


def _plain(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
