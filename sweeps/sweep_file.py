"""sweep.json: what was asked and proposed.  The record of a sweep is that, its cells, and tables.

    sweep.json         spec, versions, space and proposals of every study
    trials.parquet     one row per trial: parameters, state, objectives, tuning work
    tuning.parquet     one row per method: default against tuned, cost, selection optimism
    importance.parquet how much each parameter decides each objective

Cells are stored as in any run; a trial's outcome follows from them, so that the proposals are all
that has to be written down.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from bench.core.cells import canonical
from bench.core.params import UserError
from bench.record.seals import Damaged, sealed, unsealed
from bench.record.store import Store
from sweeps.spec import Spec
from sweeps.study import Study

SCHEMA = 2
"""Of sweep.json; in 1 it had no checksum."""

SWEEP = "sweep.json"


def versions() -> dict[str, str]:
    """Versions that decide proposals and samples."""
    return {name: version(name) for name in ("tiltbench", "optuna", "torch")}


def read_sweep(store: Store) -> dict[str, Any]:
    """What sweep.json holds; UserError for one that is damaged."""
    try:
        content, seal = unsealed(store.read(SWEEP))
        if seal is None and content.get("schema") != 1:
            raise Damaged("lacks its checksum")
        if not {"identity", "studies", "spec"} <= set(content):
            raise Damaged("is no sweep")
    except Damaged as damage:
        raise UserError(
            f"{store.url}/{SWEEP} {damage}: remove it and repeat the 'bench sweep', which begins "
            "anew and finds the cells that it proposes again"
        ) from damage
    return content


def read_trials(store: Store, spec: Spec) -> dict[str, list[dict[str, Any]]]:
    """The proposals of an earlier driver by study; UserError if it swept something else."""
    if not store.has(SWEEP):
        return {}
    kept = read_sweep(store)
    if kept["identity"] != json.loads(canonical(spec.identity())):
        raise UserError(
            f"{store.url} holds another sweep: give this one another --name, or repeat the "
            "command that began it"
        )
    return {study["id"]: study["trials"] for study in kept["studies"]}


def write_sweep(store: Store, spec: Spec, studies: Sequence[Study]) -> None:
    """Write sweep.json in one step."""
    content = {
        "schema": SCHEMA,
        "identity": spec.identity(),
        "spec": asdict(spec),
        "versions": versions(),
        "studies": [
            {
                "id": study.id,
                "method": study.label,
                "total": study.total,
                "space": study.planner.space.describe(),
                "trials": study.records(),
            }
            for study in studies
        ],
    }
    # Not sorted: the order of a proposal's values is that of its label, also when it is read again.
    store.write(SWEEP, sealed(content))
