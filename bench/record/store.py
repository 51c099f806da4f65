"""The store: a run's files, the index of its cells, its suite and its tables.

Written by the driver alone.  Every file is written beside its place, synced and renamed; the result
is the last of an attempt, so an attempt without one never happened.
"""

from __future__ import annotations

import io
from functools import cached_property
from typing import Any

import pandas as pd
import yaml

from bench.core.documents import read_yaml
from bench.core.params import UserError
from bench.record import layout
from bench.record.files import RunFiles
from bench.record.index import Index, parquet


class Store(RunFiles):
    """One run, as a command sees it: its cells are read once, through the index."""

    @cached_property
    def index(self) -> Index:
        """What the run holds of its cells."""
        return Index(self)

    def save_suite(self, resolved: dict[str, Any]) -> None:
        """The resolved suite, as YAML."""
        self.write(layout.SUITE, yaml.safe_dump(resolved, sort_keys=False).encode())

    def suite(self) -> dict[str, Any]:
        """The resolved suite."""
        content: dict[str, Any] = read_yaml(self.read(layout.SUITE).decode())
        return content

    def save_table(self, name: str, frame: pd.DataFrame) -> None:
        """One of the run's parquet tables."""
        self.write(layout.table(name), parquet(frame))

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet tables."""
        return pd.read_parquet(io.BytesIO(self.read(layout.table(name))))


def open_run(path: str) -> Store:
    """The store of an existing run folder."""
    parent, _, name = path.rstrip("/").rpartition("/")
    store = Store(parent or ".", name)
    if not store.exists():
        raise UserError(f"'{path}' is not a run: it has no {layout.SUITE}")
    return store
