"""Fitted flows as logged models of MLflow: weights, what they were fitted to, and the cost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from bench.record import layout
from bench.record.store import Store
from bench.tracking.artifacts import clean

RUN, FIT, ATTEMPT = "tiltbench.run", "tiltbench.fit", "tiltbench.attempt"
FILES = (layout.FITTED, layout.CURVE)


def put_models(client: Any, experiment: str, parent: str, store: Store) -> int:
    """Log the run's fits that are not there yet; returns their number.

    A fit that was made again is another model; the old one is deleted.
    """
    cells = store.table("cells")
    wanted = sorted(set(cells["fit"]) - {""}) if "fit" in cells else []
    there = _known(client, experiment, store.name) if wanted else {}
    return sum(_put(client, experiment, parent, store, fit, there.get(fit)) for fit in wanted)


def _known(client: Any, experiment: str, run: str) -> dict[str, Any]:
    """The run's models, by fit."""
    out: dict[str, Any] = {}
    token: str | None = None
    while token != "":
        page = client.search_logged_models([experiment], page_token=token)
        out |= {m.tags[FIT]: m for m in page if m.tags.get(RUN) == run and FIT in m.tags}
        token = page.token or ""
    return out


def _put(
    client: Any, experiment: str, parent: str, store: Store, fit: str, there: Any | None
) -> bool:
    stored = store.index.last(fit)
    if stored is None or not stored.ok:
        return False
    if there is not None:
        if there.tags[ATTEMPT] == str(stored.number) and str(there.status) == "READY":
            return False
        client.delete_logged_model(there.model_id)
    cell = json.loads(store.read(layout.cell_file(fit)))
    costs = {f"fit {unit}": f"{cost:g}" for unit, cost in stored.attempt.costs.items()}
    world = {key: str(cell[key]) for key in ("task", "reward", "strength", "condition", "method")}
    model = client.create_logged_model(
        experiment,
        name=f"{clean(cell['method'])}-{fit[:8]}",
        source_run_id=parent,
        tags={RUN: store.name, FIT: fit, ATTEMPT: str(stored.number)},
        params=world | {k: str(v) for k, v in cell["method_params"].items()} | costs,
        model_type="tiltbench fitted flow",
    )
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as folder:
        for name in FILES:
            data = store.index.beside(fit, stored.number, name)
            if data is not None:
                Path(folder, name).write_bytes(data)
        Path(folder, "cell.json").write_bytes(store.read(layout.cell_file(fit)))
        client.log_model_artifacts(model.model_id, folder)
    # Last, so that a model that was interrupted is never taken for a complete one.
    client.finalize_logged_model(model.model_id, "READY")
    return True
