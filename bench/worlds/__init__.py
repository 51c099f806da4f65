"""Worlds: how the networks of a task are trained, and how good they turn out to be.

A module for each, which its task names (`Task.world`), so that `bench train` finds somebody else's
too.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bench.core import plugins
from bench.core.params import UserError
from bench.metrics.validation import Networks, ReferenceLaw
from bench.metrics.world_quality import Quality
from bench.training.recipes import Recipe
from bench.training.trainer import Report

Stage = Callable[[str, int], Report]
"""(stage name, its number of steps) -> the report function of that stage."""


@dataclass(frozen=True)
class World:
    """What `bench train` knows of a task.

    train: (recipe, folder of checkpoints, stages) -> every network that the task ships.  law: what
    validation measures against, given the networks that are finished so far; None until it is
    known.  quality: (networks, share of the draws that a whole measurement takes) -> the figures
    that stand beside the weights; the share is 1 unless the training was shortened.
    """

    recipe: Recipe
    train: Callable[[Recipe, Path, Stage], Networks]
    law: Callable[[Networks], ReferenceLaw | None]
    quality: Callable[[Networks, float], Quality]


def of_task(task: str) -> World:
    """The world that a task names; UserError if it names none, or one that is not there."""
    name = plugins.load("tasks", task).world
    if name is None:
        raise UserError(f"the task '{task}' has no networks to train: choose another")
    try:
        found: World = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"the world '{name}' of '{task}' cannot be loaded: {error}") from error
    return found


def tensors(networks: Networks) -> dict[str, Tensor]:
    """All weights under `prefix.name`, ready for safetensors."""
    return {
        f"{prefix}.{name}": value.contiguous()
        for prefix, net in networks.items()
        for name, value in net.state_dict().items()
    }
