"""Checkpoints of a training: written whole or not at all, the last few of them kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

State = dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The files `step-<number>.pt` of a folder, of which the `keep` latest stay."""

    folder: Path
    keep: int

    def save(self, step: int, state: State) -> None:
        """Write beside the place, flush to the disk, rename; then drop the oldest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.pt"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        for old in self._files()[: -self.keep]:
            old.unlink()

    def last(self) -> State | None:
        """The latest state, on the CPU; None in a new folder."""
        files = self._files()
        if not files:
            return None
        state: State = torch.load(files[-1], map_location="cpu", weights_only=True)
        return state

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))
