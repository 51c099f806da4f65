"""Recipes: the sizes and lengths of a training, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from bench.core.params import UserError
from bench.models.backbones import MLP
from bench.models.meta_flow_map import Parametrisation
from bench.training.objectives import POWER, MapObjective
from bench.training.trainer import TrainConfig

STARTS = ("random", "flow")


@dataclass(frozen=True)
class Recipe:
    """Sizes and lengths of one world, and the objectives of its map.

    network: "mlp", or a backbone by name (`bench.models.backbones`).  diagonal_power,
    consistency_power: exponents of the adaptive weights of targets that are not random.
    diagonal_only: steps of the map on its diagonal alone.  widening: steps after these in which
    u - s grows from 0 to its own size.  start: what the map's weights are at first, "random" or
    "flow".  optimizer, schedule, warmup, flow_ema, map_ema, clip: see `TrainConfig`.
    """

    flow_steps: int
    map_steps: int
    batch: int
    map_width: int
    flow_width: int = 256
    depth: int = 3
    context_power: float = 2.0
    learning_rate: float = 1e-3
    classifier_steps: int = 1500
    parametrisation: Parametrisation = "gaussian"
    diagonal: str = "distilled"
    consistency: str = "semigroup"
    seed: int = 0
    network: str = MLP
    diagonal_power: float = POWER
    consistency_power: float = POWER
    diagonal_only: int = 0
    widening: int = 0
    start: str = "random"
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: int = 200
    flow_ema: float = 0.9995
    map_ema: float = 0.999
    clip: float = 1.5

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise UserError(f"a map starts from {' or '.join(STARTS)}, not '{self.start}'")
        if self.diagonal_only < 0 or self.widening < 0:
            raise UserError("diagonal_only and widening are numbers of steps: give 0 or more")
        _ = TrainConfig(1, **self.optimising), self.objective  # names are looked up there

    @property
    def objective(self) -> MapObjective:
        """What the map is trained on; an unknown name is a UserError."""
        powers = self.diagonal_power, self.consistency_power
        return MapObjective(self.diagonal, self.consistency, *powers)

    @property
    def optimising(self) -> dict[str, Any]:
        """What flow and map have in common in their `TrainConfig`."""
        return {
            "learning_rate": self.learning_rate,
            "warmup": self.warmup,
            "clip": self.clip,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
        }

    def width(self, step: int) -> float:
        """By what u - s is multiplied at a step of the map; 0: the diagonal alone."""
        if step < self.diagonal_only:
            return 0.0
        return min(1.0, (step - self.diagonal_only + 1) / max(1, self.widening))

    def training(self) -> dict[str, float]:
        """Paper-nfe of training flow and map.

        A flow step is a forward and a backward per row; a map step is its objective's work.
        """
        rows, both = float(self.batch), self.objective
        alone, work = (w.cost("paper-nfe") for w in (both.terms[0].work, both.work))
        first = min(self.diagonal_only, self.map_steps)
        steps = alone * first + work * (self.map_steps - first)
        return {"flow": 2 * rows * self.flow_steps, "map": rows * steps}

    def shortened(self, factor: float) -> Self:
        """The same recipe with its training lengths multiplied, for trials."""
        return replace(
            self,
            flow_steps=max(1, int(self.flow_steps * factor)),
            map_steps=max(1, int(self.map_steps * factor)),
            classifier_steps=max(1, int(self.classifier_steps * factor)),
            diagonal_only=int(self.diagonal_only * factor),
            widening=int(self.widening * factor),
        )
