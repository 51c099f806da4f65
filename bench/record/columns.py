"""The columns of a run's tables, in order, with what "unknown" means for each.

Tables are written with these columns, and a reader completes an older or unfinished table by them.
Nothing here imports torch.
"""

from __future__ import annotations

from bench.core.units import KINDS, ROLES, UNITS

SCHEMA_VERSION = 2

Unknown = str | float | bool

NAN = float("nan")

WORK = tuple(f"{role}_{kind}" for role in ROLES for kind in KINDS)
"""Rows by role and kind."""

COUNTED = {unit.column: NAN for unit in UNITS.values() if not unit.timed}
"""Cost per returned sample in every unit that the same work always costs."""

MADE = ("device", "version", "torch", "python", "commit", "processor")
"""With what a cell was made, as its attempt says it."""

CELLS: dict[str, Unknown] = {
    "schema": NAN,
    "cell": "",
    "task": "",
    "reward": "",
    "strength": 1.0,
    "condition": "",
    "conditions": "[]",
    "method": "",
    "method_name": "",
    "preset": "",
    "method_summary": "",
    "method_standing": "method",
    "method_tag": "",
    "method_caveat": "",
    "method_push": "guidance",
    "method_best_of": "",
    "method_colour": "",
    "task_summary": "",
    "task_noun": "sample",
    "params": "{}",
    "matched": "{}",
    "budget": "",
    "budget_unit": "",
    "budget_amount": NAN,
    "seed": 0.0,
    "n": 0.0,
    "status": "pending",
    "reason": "",
    "expected": NAN,
    "drift": NAN,
    "utilisation": NAN,
    "underused": False,
    **COUNTED,
    "predicted_paper_nfe": NAN,
    "predicted_equal": NAN,
    "fit": "",
    "fit_paper_nfe": 0.0,
    "fit_model_nfe": 0.0,
    "fit_flops_total": 0.0,
    "fit_seconds_total": 0.0,
    "predicted_fit_paper_nfe": 0.0,
    "fit_predicted_equal": NAN,
    **{f"fit_{work}": 0.0 for work in WORK},
    "n_served": NAN,
    "map_paper_nfe": 0.0,
    "seconds": NAN,
    "cell_seconds": NAN,
    "warmup_seconds": NAN,
    "joules": NAN,
    "peak_bytes": NAN,
    **{f"sample_{work}": 0.0 for work in WORK},
    "device": "",
    "threads": NAN,
    "version": "",
    "torch": "",
    "python": "",
    "commit": "",
    "processor": "",
    "info": "{}",
    "attempt": 0.0,
    "finished": "",
}
"""One row per planned cell, whatever its status; work of all samples, costs per sample.

conditions: of a cell of many, as a JSON list; `condition` then only names the first.
"""

METRICS: dict[str, Unknown] = {
    "cell": "",
    "metric": "",
    "version": "",
    "implementation": "",
    "direction": "none",
    "summary": "",
    "rank": 1000.0,
    "measures": "",
    "floor": False,
    "value": NAN,
    "standard_error": NAN,
    "n": 0.0,
    "note": "",
    "accuracy": "",
    "accuracy_source": "",
    "condition": "",
    "held_out": False,
}
"""One row per cell, metric and version, and condition in a cell of many.

held_out: the condition is one that the fit behind the samples did not see.
"""

SAMPLES: dict[str, Unknown] = {
    "cell": "",
    "condition": "",
    "index": 0.0,
    "held_out": False,
    "reward": NAN,
    "judge": NAN,
}
"""One row per returned sample; further metrics that score samples follow."""

RESULTS = (
    "task",
    "reward",
    "strength",
    "condition",
    "method",
    "budget",
    "seed",
    "n",
    "status",
    "reason",
    "metric",
    "value",
    "standard_error",
    "direction",
    "implementation",
    "version",
    "note",
    "paper_nfe",
    "model_nfe",
    "utilisation",
    "underused",
    "seconds",
    "cell",
)
"""Of the join for people; a failed cell keeps one row with an empty metric."""
