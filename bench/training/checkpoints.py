"""Checkpoints of a training: written whole or not at all, the last few of them kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
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
        """The latest state that can be read, on the CPU; None where there is none.

        A damaged one is set aside, and the training goes on from the one before it.
        """
        for file in reversed(self._files()):
            try:
                state: TrainingState = torch.load(file, map_location="cpu", weights_only=True)
            except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError):
                file.replace(file.with_name(f"{file.name}.damaged"))
            else:
                return state
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))
