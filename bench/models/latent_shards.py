"""Encoded pictures: safetensors files of latent codes with labels, and an index with their hashes.

A shard holds `mean` and `sigma` (rows, channels, h, w), the code q(z | picture) of scaled latents,
and `label` (rows,).  `index.json` says what was encoded, with which autoencoder, and the SHA-256 of
every shard.  Written by `bench.reading.encoding`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.models.autoencoder import Code
from bench.models.external import file_digest, read_state

INDEX = "index.json"
FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes of the shards.

    listing: SHA-256 of the names and sizes of the pictures.  side: of the square that was encoded.
    """

    listing: str
    autoencoder: str
    side: int
    pictures: int
    shard: int
    classes: tuple[str, ...]
    format: int = FORMAT

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
    """A finished folder; its shards are verified when they are first read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / INDEX
        if not path.is_file():
            raise UserError(
                f"{folder} is no finished folder of encoded pictures, it has no {INDEX}: let "
                "'bench prepare' run to its end"
            )
        self.digest = file_digest(path)
        self.index: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if self.index.get("format") != FORMAT:
            raise UserError(f"{path} is of another format: encode the pictures again")

    def require(self, autoencoder: str, event_shape: tuple[int, ...]) -> None:
        """UserError unless the pictures were encoded as the flow's states are."""
        if self.index["autoencoder"] != autoencoder:
            raise UserError(
                f"the pictures in {self.folder} were encoded by another autoencoder than the "
                "task's: encode them again with it"
            )
        found = tuple(self._codes.mean.shape[1:])
        if found != event_shape:
            raise UserError(
                f"the pictures in {self.folder} have latents of shape {found}, and the flow "
                f"{event_shape}: encode them again with the side that the flow has"
            )

    @cached_property
    def _read(self) -> dict[str, Tensor]:
        """All shards as one, checked against the index."""
        parts = [self._shard(k, digest) for k, digest in enumerate(self.index["shards"])]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _shard(self, k: int, digest: str) -> dict[str, Tensor]:
        path = self.folder / shard_name(k)
        if not path.is_file() or file_digest(path) != digest:
            raise UserError(
                f"{path} is missing or not what was encoded: run 'bench prepare' again, which "
                "encodes that shard anew"
            )
        return read_state(path)

    @property
    def _codes(self) -> Code:
        return Code(self._read["mean"], self._read["sigma"])

    def draw(self, n: int, labels: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """n latents of pictures with one of the labels, uniform, each drawn from its code.

        UserError where there is no such picture.
        """
        wanted = torch.isin(self._read["label"], torch.tensor(labels)).nonzero()[:, 0]
        if not len(wanted):
            raise UserError(
                f"{self.folder} holds no picture of the classes {', '.join(map(str, labels))}: its "
                f"labels run from 0 to {len(self.index['classes']) - 1}, the sub-folders in order"
            )
        rows = wanted[torch.randint(len(wanted), (n,), generator=generator)]
        return self._codes.pick(rows, generator)
