"""Which state of the record tables and the page were made from, and their checksums.

They are projections: one that is of another state, or not what was written, is made again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.cells import digest
from bench.core.params import UserError
from bench.record import layout
from bench.record.files import RunFiles
from bench.record.seals import Damaged, checksum, sealed, unsealed


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


def read_table(file: Path) -> pd.DataFrame:
    """A parquet table; UserError for one that is damaged."""
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's are both
        raise UserError(
            f"{file} is damaged: repeat the `bench run` of its run, or `bench report`, which make "
            "it again"
        ) from error
