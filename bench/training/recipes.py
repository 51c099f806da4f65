"""Recipes: the sizes and lengths of a training, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from bench.models.backbones import MLP
from bench.models.meta_flow_map import Parametrisation
from bench.training.objectives import MapObjective


@dataclass(frozen=True)
class Recipe:
    """Sizes and lengths of one world, and the objectives of its map.

    network: "mlp", or a backbone by name (`bench.models.backbones`).
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

    @property
    def objective(self) -> MapObjective:
        """What the map is trained on; an unknown name is a UserError."""
        return MapObjective(self.diagonal, self.consistency)

    def training(self) -> dict[str, float]:
        """Paper-nfe of training flow and map.

        A flow step is a forward and a backward per row; a map step is its objective's work.
        """
        rows, work = float(self.batch), self.objective.work.cost("paper-nfe")
        return {"flow": 2 * rows * self.flow_steps, "map": work * rows * self.map_steps}

    def shortened(self, factor: float) -> Self:
        """The same recipe with its training lengths multiplied, for trials."""
        return replace(
            self,
            flow_steps=max(1, int(self.flow_steps * factor)),
            map_steps=max(1, int(self.map_steps * factor)),
            classifier_steps=max(1, int(self.classifier_steps * factor)),
        )
