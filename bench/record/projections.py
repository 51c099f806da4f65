"""Which state of the record tables and the page were made from, and their checksums.

They are projections: one that is of another state, or not what was written, is made again.
"""

from __future__ import annotations

import io
import time
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from bench.core.cells import digest
from bench.core.params import UserError
from bench.record import layout
from bench.record.files import RunFiles
from bench.record.seals import Damaged, checksum, sealed, unsealed, verified


@dataclass(frozen=True)
class Projection:
    """The checksum of a file that was made, and the state that it was made of."""

    checksum: str
    of: str


class Projections:
    """What a run says of its tables and its page.

    Args:
        files: the run's files.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files

    def note(self, file: str, data: bytes, of: str) -> None:
        """A file was written; until this is stored, it is taken for stale."""
        known = self._read() | {file: Projection(checksum(data), of)}
        content = {name: asdict(known[name]) for name in sorted(known)}
        self._files.write(layout.PROJECTIONS, sealed(content))

    def checksum(self, file: str) -> str | None:
        """What was noted of a file, if anything."""
        known = self._read().get(file)
        return None if known is None else known.checksum

    def current(self, file: str, of: str) -> bool:
        """Whether a file is whole and of this state."""
        known, data = self._read().get(file), self._files.found(file)
        return data is not None and known == Projection(checksum(data), of)

    def state(self, but: str) -> str:
        """Digest of all that was made, but one: what the page is made of."""
        return digest([[k, p.checksum] for k, p in sorted(self._read().items()) if k != but])

    def _read(self) -> dict[str, Projection]:
        """By file; nothing where it is damaged, so that everything is made again."""
        data = self._files.found(layout.PROJECTIONS)
        try:
            content: dict[str, Any] = {} if data is None else unsealed(data)[0]
            return {name: Projection(**told) for name, told in content.items()}
        except (Damaged, TypeError):
            return {}


PAUSES = (0.0, 0.1, 0.5)
"""Seconds before a table is read again: who writes it notes its checksum a moment later."""


def read_table(files: RunFiles, name: str) -> pd.DataFrame:
    """One of a run's parquet tables; UserError for one that is damaged.

    Raises FileNotFoundError where there is none.
    """
    for pause in PAUSES:
        time.sleep(pause)
        try:
            return _table(files.read(layout.table(name)), Projections(files), name)
        except Damaged as error:
            why = error
    raise UserError(
        f"{layout.table(name)} of the run in {files.url} {why}: repeat its `bench run`, or "
        f"`bench report {files.url}`, which make it again"
    ) from why


def _table(data: bytes, known: Projections, name: str) -> pd.DataFrame:
    """The table in a file's bytes; those without a checksum are looked through to the end."""
    from pyarrow import ArrowException, parquet

    told = known.checksum(layout.table(name))
    try:
        whole = io.BytesIO(verified(data, told))
        if told is None:
            parquet.read_table(whole).validate(full=True)
        return pd.read_parquet(whole)
    except (OSError, ValueError, ArrowException) as error:
        raise Damaged(str(error) if isinstance(error, Damaged) else "is damaged") from error
