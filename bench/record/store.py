"""The store: a run's files, the index of its cells, its suite and its tables.

Written by the driver alone.  Every file is written beside its place, synced and renamed; the result
is the last of an attempt, so an attempt without one never happened.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import pandas as pd
import yaml

from bench.core.cells import canonical
from bench.core.params import UserError
from bench.record import layout
from bench.record.files import RunFiles
from bench.record.index import Index, parquet
from bench.record.projections import Projections, read_table
from bench.record.seals import Damage, Damaged, sealed, unsealed
from bench.record.suite_file import read_suite


class Store(RunFiles):
    """One run, as a command sees it: its cells are read once, through the index."""

    @cached_property
    def index(self) -> Index:
        """What the run holds of its cells."""
        return Index(self)

    def save_suite(self, resolved: dict[str, Any]) -> None:
        """The resolved suite, as YAML."""
        self.write(layout.SUITE, self.suite_text(resolved))

    @staticmethod
    def suite_text(resolved: dict[str, Any]) -> bytes:
        """What is stored of a resolved suite."""
        return yaml.safe_dump(resolved, sort_keys=False).encode()

    def suite(self) -> dict[str, Any]:
        """The resolved suite."""
        try:
            content = read_suite(self.read(layout.SUITE).decode())
        except ValueError as error:
            raise UserError(
                f"{self.path}/{layout.SUITE} is damaged: repeat the `bench run` of "
                f"'{self.name}', which writes it again"
            ) from error
        for block in content.get("blocks", ()):  # some are from before a seed had a fit of its own
            block.setdefault("fits", "shared")
        return content

    def pilots(self) -> bytes | None:
        """JSON of the matches that pilots found; None where there are none, or damaged ones."""
        data = self.found(layout.PILOTS)
        try:
            return None if data is None else canonical(unsealed(data)[0]).encode()
        except Damaged as damage:
            self.set_aside(layout.PILOTS)
            self.index.damaged.append(Damage(layout.PILOTS, str(damage)))
            return None

    def save_pilots(self, data: bytes) -> None:
        """Keep the matches that pilots found, with a checksum."""
        self.write(layout.PILOTS, sealed(json.loads(data)))

    def save_table(self, name: str, frame: pd.DataFrame, of: str = "") -> None:
        """One of the run's parquet tables, made from the state `of` of the record."""
        data = parquet(frame)
        self.write(layout.table(name), data)
        self.projections.note(layout.table(name), data, of)

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet tables; UserError for one that is damaged."""
        return read_table(self, name)

    @cached_property
    def projections(self) -> Projections:
        """What tables and the page were made from."""
        return Projections(self)


def open_run(path: str) -> Store:
    """The store of an existing run folder."""
    parent, _, name = path.rstrip("/").rpartition("/")
    store = Store(parent or ".", name)
    if not store.exists():
        raise UserError(f"'{path}' is not a run: it has no {layout.SUITE}")
    return store
