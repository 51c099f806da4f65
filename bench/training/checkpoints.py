"""Checkpoints of a training: written whole or not at all, the last few of them kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.core import atomic

TrainingState = dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The files `step-<number>.pt` of a folder, of which the `keep` latest stay."""

    folder: Path
    keep: int

    def save(self, step: int, state: TrainingState) -> None:
        """Write a step's state, then drop the oldest."""
        with atomic.writing(self.folder / f"step-{step:08d}.pt") as file:
            torch.save(state, file)
        killed = self.folder.glob("*.partial")  # what a write leaves that never came to its end
        for old in (*self._files()[: -self.keep], *killed):
            old.unlink()

    def last(self) -> TrainingState | None:
        """The latest state, on the CPU; None in a new folder."""
        files = self._files()
        if not files:
            return None
        state: TrainingState = torch.load(files[-1], map_location="cpu", weights_only=True)
        return state

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))
