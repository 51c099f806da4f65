"""Encoded pictures: safetensors files of latent codes with labels, and an index with their hashes.

A shard holds `mean` and `sigma` (rows, channels, h, w), the code q(z | picture) of scaled latents,
and `label` (rows,).  Rows are in the order of their classes.  `index.json` says what was encoded,
with which autoencoder, and the SHA-256 of every shard.  Written by `bench.reading.encoding`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.own_files import own_json
from bench.core.params import UserError
from bench.models.autoencoder import Code
from bench.models.external import file_digest

INDEX = "index.json"
FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes of the shards.

    listing: SHA-256 of the names and sizes of the pictures.  side: of the square that was encoded.
    shard: rows of a file.  counts: pictures per class.
    """

    listing: str
    autoencoder: str
    side: int
    shard: int
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    format: int = FORMAT

    @property
    def pictures(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def rows(self, k: int) -> range:
        """The pictures of the k-th shard."""
        return range(k * self.shard, min((k + 1) * self.shard, self.pictures))

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.pictures // self.shard)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def shard_name(k: int) -> str:
    """The file of the k-th shard."""
    return f"{k:05d}.safetensors"


class LatentShards:
    """A finished folder, of which rows are read as they are asked for.

    A shard is compared with its hash before the first row of it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / INDEX
        if not path.is_file():
            raise UserError(
                f"{folder} is no finished folder of encoded pictures, it has no {INDEX}: let "
                "'bench prepare latents' run to its end"
            )
        self.digest = file_digest(path)
        index = own_json(path, "run 'bench prepare latents' again, which writes it")
        if index.get("format") != FORMAT:
            raise UserError(f"{path} is of another format: encode the pictures again")
        self.hashes: list[str] = index.pop("shards")
        self.recipe = Recipe(**{**index, "classes": tuple(index["classes"]),
                                "counts": tuple(index["counts"])})  # fmt: skip
        self._open: dict[int, Any] = {}

    def require(self, autoencoder: str, event_shape: tuple[int, ...]) -> None:
        """UserError unless the pictures were encoded as the flow's states are."""
        if self.recipe.autoencoder != autoencoder:
            raise UserError(
                f"the pictures in {self.folder} were encoded by another autoencoder than the "
                "task's: encode them again with it"
            )
        found = tuple(self.codes(torch.zeros(1, dtype=torch.long)).mean.shape[1:])
        if found != event_shape:
            raise UserError(
                f"the pictures in {self.folder} have latents of shape {found}, and the flow "
                f"{event_shape}: encode them again with the side that the flow has"
            )

    def draw(self, n: int, labels: Sequence[int], generator: torch.Generator) -> Tensor:
        """n latents of pictures with one of the labels, uniform, each drawn from its code.

        UserError where there is no such picture.
        """
        wanted = torch.cat([self._rows(label) for label in labels])
        if not len(wanted):
            raise UserError(
                f"{self.folder} holds no picture of the classes {', '.join(map(str, labels))}: its "
                f"labels run from 0 to {len(self.recipe.classes) - 1}, the sub-folders in order"
            )
        rows = wanted[torch.randint(len(wanted), (n,), generator=generator)]
        code = self.codes(rows)
        return code.draw(torch.randn(code.mean.shape, generator=generator))

    def codes(self, rows: Tensor) -> Code:
        """The codes of some rows (n,), in their order."""
        order = rows.argsort(stable=True)
        found = [self._row(int(row)) for row in rows[order]]
        back = order.argsort()
        mean, sigma = (torch.cat(parts)[back] for parts in zip(*found, strict=True))
        return Code(mean, sigma)

    def _rows(self, label: int) -> Tensor:
        """The rows of a class; none for a label that no sub-folder has."""
        counts = self.recipe.counts
        if label not in range(len(counts)):
            return torch.zeros(0, dtype=torch.long)
        start = sum(counts[:label])
        return torch.arange(start, start + counts[label])

    def _row(self, row: int) -> tuple[Tensor, Tensor]:
        k, at = divmod(row, self.recipe.shard)
        shard = self._open.get(k) or self._opened(k)
        mean, sigma = (shard.get_slice(name)[at : at + 1] for name in ("mean", "sigma"))
        return mean, sigma

    def _opened(self, k: int) -> Any:
        from safetensors import safe_open

        path = self.folder / shard_name(k)
        if not path.is_file() or file_digest(path) != self.hashes[k]:
            raise UserError(
                f"{path} is missing or not what was encoded: run 'bench prepare latents' again, "
                "which encodes that shard anew"
            )
        self._open[k] = safe_open(path, "pt")
        return self._open[k]
