"""How long a training takes on this machine, from a few steps of each of its networks."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from bench.training.recipes import Recipe
from bench.training.trainer import Setting
from bench.worlds import World

STEPS = 8
"""Tried of each network; of the next length of a recipe one more, by which they are told apart."""

WORTH = 50
"""A training this many times longer than what is tried is worth being tried."""


@dataclass
class _Watch:
    """Seconds per step of one network, between the first and the end."""

    began: float = 0.0
    took: float = 0.0

    def begin(self, step: int) -> None:
        """Before the first step."""
        self.began = perf_counter()

    def finish(self, _: torch.nn.Module) -> None:
        """After the last one."""
        self.took = perf_counter() - self.began


def lengths(recipe: Recipe) -> dict[str, int]:
    """The keys of a recipe that are numbers of steps of a network."""
    named = [f.name for f in fields(recipe) if f.name.endswith("_steps") and f.name != "pair_steps"]
    return {name: getattr(recipe, name) for name in named if getattr(recipe, name)}


def is_long(recipe: Recipe) -> bool:
    """Whether trying it out first takes a small part of it."""
    return sum(lengths(recipe).values()) > WORTH * STEPS * len(lengths(recipe))


def seconds_of(world: World, recipe: Recipe, device: str = "cpu") -> dict[str, float]:
    """Predicted seconds of every network's training, in their order.

    Each is trained for a few steps in a folder that is then removed; what comes before the first
    step, validations and the measurement of the end result are not counted.
    """
    tried = {STEPS + k: length for k, length in enumerate(lengths(recipe).values())}
    watches: dict[str, tuple[_Watch, int]] = {}

    def stage(name: str, steps: int) -> Setting:
        watch = _Watch()
        watches[name] = watch, steps
        return Setting(device=device, begin=watch.begin, finish=watch.finish)

    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        world.train(_few_steps(recipe), Path(folder), stage)
    return {
        name: watch.took / steps * tried[steps]
        for name, (watch, steps) in watches.items()
        if steps in tried
    }


def _few_steps(recipe: Recipe) -> Recipe:
    """A length of its own for each number of steps; pairs that are solved beforehand are few."""
    changes: dict[str, Any] = {name: STEPS + k for k, name in enumerate(lengths(recipe))}
    changes |= {"diagonal_only": 0, "widening": 0}
    if hasattr(recipe, "pairs"):
        changes["pairs"] = min(recipe.pairs, recipe.batch)
    return replace(recipe, **changes)
