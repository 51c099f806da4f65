"""A made-up study of value estimates, as `bench study value --run RUN` leaves it."""

from __future__ import annotations

import json
from pathlib import Path


def studied(folder: Path) -> Path:
    """A study with an error that falls as one over the root of the draws."""
    rows = [
        {
            "t": t, "sampler": sampler, "evaluations": each, "draws": n, "quantity": quantity,
            "statistic": "rmse" if quantity == "V" else "relative-rmse",
            "value": n**-0.5, "low": 0.9 * n**-0.5, "high": 1.1 * n**-0.5,
        }
        for t in (0.1, 0.2, 0.3, 0.5)
        for sampler, each in (("gaussian", 1), ("glass-4", 4), ("map-1", 1), ("exact", 1))
        for n in (1, 4, 16, 64)
        for quantity in ("V", "grad V, G", "grad V, GF")
    ]  # fmt: skip
    per_draw = {"gaussian": 0, "glass-4": 3, "map-1": 1, "exact": 1}
    said = {"task": "digits", "reward": "class-mixture", "contexts": 8, "truth": "the closed form"}
    said |= {"rates": [], "rows_per_draw": per_draw, "rows": rows}
    (folder / "value-study-0a.json").write_text(json.dumps(said))
    return folder
