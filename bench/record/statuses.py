"""How a cell can end, in the order in which reports count them, and what each means."""

from __future__ import annotations

STATUSES = {
    "ok": "finished",
    "pending": "not run yet",
    "skipped": "the method lacks something that it needs here",
    "infeasible": "no parameters of the method fit the budget",
    "over_budget": "stopped when it exceeded the budget",
    "diverged": "the samples became infinite",
    "failed": "an error",
    "timeout": "stopped at the time limit",
}
