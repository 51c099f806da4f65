"""Recipes: how the flow and the meta flow map of a small world are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from bench.core.integrate import Velocity
from bench.models.digits_data import Labelled
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet, Parametrisation
from bench.models.nets import Classifier
from bench.training import losses
from bench.training.objectives import MapObjective
from bench.training.trainer import Losses, Report, TrainConfig, Trainer

Pick = Callable[[int, torch.Generator], Tensor]
"""(n, generator) -> n data points (n, *event)."""


def from_data(data: Tensor) -> Pick:
    """Uniform draws from a finite data set."""
    return lambda n, generator: data[torch.randint(len(data), (n,), generator=generator)]


@dataclass(frozen=True)
class Recipe:
    """Sizes and lengths of one world, and the objectives of its map."""

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


DIGITS = Recipe(flow_steps=6000, map_steps=18000, batch=256, map_width=384, context_power=1.3)
GMM_PAPER = Recipe(flow_steps=0, map_steps=12000, batch=1024, map_width=128)


def train_flow(data: Tensor, recipe: Recipe, folder: Path, report: Report) -> FlowNet:
    """Flow matching on data (n, *event)."""
    torch.manual_seed(recipe.seed)
    flow = FlowNet(tuple(data.shape[1:]), recipe.flow_width, recipe.depth)
    flow.gaussian.fit(data.flatten(1))
    pick = from_data(data)

    def objective(
        model: nn.Module, _: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        x1 = pick(recipe.batch, generator)
        t = torch.rand(len(x1), generator=generator)
        draw = losses.make_draw(x1, t, t, t, generator)
        prediction, target = losses.flow_matching(model, draw)
        return {"flow_matching": (prediction - target).flatten(1).square().sum(-1).mean()}

    config = TrainConfig(
        recipe.flow_steps, learning_rate=recipe.learning_rate, seed=recipe.seed, ema=0.9995
    )
    trained = Trainer(flow, objective, config, folder / "flow", report).run()
    assert isinstance(trained, FlowNet)
    return trained


def map_losses(pick: Pick, teacher: Velocity, recipe: Recipe) -> Losses:
    """The recipe's diagonal on s = u plus its consistency on s < u, at shared data and contexts."""
    both, batch = recipe.objective.build(teacher), recipe.batch

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, MetaFlowMapNet) and isinstance(average, MetaFlowMapNet)
        draws = losses.make_draws(pick(batch, generator), recipe.context_power, generator)
        return both(model, average, *draws)

    return objective


def train_map(
    pick: Pick,
    statistics: Tensor,
    teacher: Velocity,
    recipe: Recipe,
    folder: Path,
    report: Report,
) -> MetaFlowMapNet:
    """Distil a velocity into a meta flow map; `statistics` (n, *event) fits the Gaussian model."""
    torch.manual_seed(recipe.seed + 1)
    net = MetaFlowMapNet(
        tuple(statistics.shape[1:]), recipe.map_width, recipe.depth, recipe.parametrisation
    )
    net.gaussian.fit(statistics.flatten(1))
    config = TrainConfig(
        recipe.map_steps, learning_rate=recipe.learning_rate, seed=recipe.seed + 1, ema=0.999
    )
    objective = map_losses(pick, teacher, recipe)
    trained = Trainer(net, objective, config, folder / "map", report).run()
    assert isinstance(trained, MetaFlowMapNet)
    return trained


def train_classifier(
    data: Labelled, features: int, recipe: Recipe, seed: int, folder: Path, report: Report
) -> Classifier:
    """Cross-entropy with shifts of up to one pixel, noise and label smoothing."""
    torch.manual_seed(seed)
    net = Classifier(features)

    def objective(
        model: nn.Module, _: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        pick = torch.randint(len(data.x), (64,), generator=generator)
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
        x = torch.roll(data.x[pick], shift, dims=(2, 3))
        x = x + 0.1 * torch.randn(x.shape, generator=generator)
        loss = nn.functional.cross_entropy(model(x), data.y[pick], label_smoothing=0.02)
        return {"cross_entropy": loss}

    config = TrainConfig(recipe.classifier_steps, seed=seed, ema=0.99)
    trained = Trainer(net, objective, config, folder, report).run()
    assert isinstance(trained, Classifier)
    return trained
