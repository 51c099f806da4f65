"""Somebody's own data: rows of one shape, perhaps with a class each, as networks learn from them.

Pictures are (channels, height, width) in [-1, 1]; anything else is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.core.params import UserError

HELD_OUT = 0.1
"""Share of the rows that no network sees; they are what it is measured against."""
FEWEST = 20
KEPT_BYTES = 64 * 2**20
"""Of data that are kept beside trained weights; of more, a part is drawn."""


@dataclass(frozen=True)
class DataSet:
    """x: (n, *event_shape), float32, finite.  label: (n,) long, or None; classes: their names.

    pictures: whether rows can be looked at.
    """

    x: Tensor
    label: Tensor | None = None
    classes: tuple[str, ...] = ()
    pictures: bool = False

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return tuple(self.x.shape[1:])

    @property
    def identity(self) -> dict[str, str]:
        """SHA-256 of the rows, and of their labels with the names of these."""
        labels = b"" if self.label is None else self.label.numpy().tobytes()
        names = json.dumps(self.classes).encode()
        return {"data": _digest(str(tuple(self.x.shape)).encode(), self.x.numpy().tobytes()),
                "labels": _digest(names, labels) if self.classes else ""}  # fmt: skip

    def rows(self, index: Tensor) -> DataSet:
        """Some of the rows."""
        label = None if self.label is None else self.label[index]
        return DataSet(self.x[index].contiguous(), label, self.classes, self.pictures)

    def split(self) -> tuple[DataSet, DataSet]:
        """(to learn from, held out): a fixed draw.  UserError where there are too few rows."""
        n = len(self.x)
        if n < FEWEST:
            raise UserError(
                f"there are {n} rows to learn from, and at least {FEWEST} are needed, a tenth of "
                "which is held out: give more data"
            )
        order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
        held_out = max(1, int(HELD_OUT * n))
        return self.rows(order[held_out:].sort().values), self.rows(order[:held_out].sort().values)

    def part(self, most: int = KEPT_BYTES) -> DataSet:
        """All rows, or a fixed draw of as many as fit into `most` bytes."""
        fit = max(1, most // max(1, self.x[:1].nbytes))
        if fit >= len(self.x):
            return self
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(1))
        return self.rows(order[:fit].sort().values)

    def save(self, path: Path) -> None:
        """As safetensors, with what is no tensor in the metadata."""
        from safetensors.torch import save_file

        tensors = {"x": self.x.contiguous()}
        tensors |= {} if self.label is None else {"label": self.label}
        save_file(tensors, path, {"classes": json.dumps(self.classes),
                                  "pictures": json.dumps(self.pictures)})  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> DataSet:
        """What `save` wrote; UserError for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                said = file.metadata()
                names = set(file.keys())
                label = file.get_tensor("label") if "label" in names else None
                classes = tuple(json.loads(said["classes"]))
                return cls(file.get_tensor("x"), label, classes, json.loads(said["pictures"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the data {path} cannot be read ({error}): train again, or restore the file"
            ) from error


def _digest(*parts: bytes) -> str:
    own = hashlib.sha256()
    for part in parts:
        own.update(part)
    return own.hexdigest()
