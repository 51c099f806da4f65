"""How the cells of a study ended, in this driver or in an earlier one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from bench.core.cells import Cell, Planned
from bench.record.attempt import Attempt, MetricRow
from bench.record.store import Store
from sweeps.spec import SECONDS, Spec
from sweeps.trials import CellEnd


class CellEnds:
    """What the store knows of a sweep's cells, read once each."""

    def __init__(self, spec: Spec, store: Store) -> None:
        self.spec, self.store = spec, store
        self._known: dict[str, CellEnd] = {}

    def of_row(self, row: Planned) -> CellEnd | None:
        """How a row's cell ended, None before; a failed fit fails its rows."""
        fit = None if row.fit is None else self.of_cell(row.fit.cell)
        if fit is not None and fit.status != "ok":
            return replace(fit, reason=f"its fit: {fit.reason}", cost=0.0)
        return self.of_cell(row.cell)

    def of_cell(self, cell: Cell) -> CellEnd | None:
        """How a cell ended; one that lost its worker has not."""
        if cell.id not in self._known:
            stored = self.store.index.last(cell.id)
            if stored is None or stored.attempt.lost:
                return None
            self.remember(cell, stored.attempt, self.store.index.metrics(cell.id).values())
        return self._known[cell.id]

    def remember(self, cell: Cell, attempt: Attempt, metrics: Iterable[MetricRow]) -> None:
        """Note how a cell ended."""
        found = {row.metric: row.value for row in metrics}
        if cell.n:
            found[SECONDS] = attempt.work.get("seconds", math.nan) / cell.n
        read = [found.get(name) for name in self.spec.objectives]
        values = tuple(math.nan if value is None else float(value) for value in read)
        cost = attempt.costs.get(self.spec.limit.unit)
        total = None if cost is None else cost * max(1, cell.n)
        self._known[cell.id] = CellEnd(attempt.status, attempt.reason, values, total)
