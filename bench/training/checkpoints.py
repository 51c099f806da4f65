"""Checkpoints of a training: written whole or not at all, the last few of them kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from bench.core import atomic
from bench.core.divided import divided_as

TrainingState = dict[str, Any]


class Stateful(Protocol):
    """What has a state that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class WholeOptimizer:
    """An optimiser whose state is whole where it is kept, and here divided like its parameters."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's own."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of whole tensors, whoever held them."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        divided = {
            k: {name: divided_as(parameters[k], value) for name, value in own.items()}
            for k, own in state_dict["state"].items()
        }
        self.optimizer.load_state_dict({**state_dict, "state": divided})


def restore(parts: Mapping[str, Stateful], state: TrainingState) -> None:
    """Give the parts what a checkpoint has of them, if there is one."""
    for name, part in parts.items() if state else ():
        part.load_state_dict(state[name])


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
