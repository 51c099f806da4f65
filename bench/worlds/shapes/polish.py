"""The second training of the `shapes` map: whole jumps, from solved trajectories of the flow."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.shapes_render import SHAPES
from bench.training import losses, weighting
from bench.training.maps import map_losses, taught_by
from bench.training.objectives import POWER
from bench.training.ode_pairs import Solved, solve
from bench.training.sources import DataSource
from bench.training.trainer import Losses, Report, TrainConfig, Trainer
from bench.worlds.shapes.latents import told_of
from bench.worlds.shapes.recipe import ShapesRecipe


def solved_pairs(flow: FlowNet, recipe: ShapesRecipe) -> Solved:
    """Trajectories of the flow from fresh noise, with labels and scales as in training."""
    generator = torch.Generator().manual_seed(recipe.seed + 4)
    noise = torch.randn(recipe.pairs, recipe.latents, generator=generator)
    label = torch.randint(len(SHAPES), (recipe.pairs,), generator=generator)
    return solve(flow, noise, told_of(label, recipe, generator), recipe.pair_steps)


def polish_losses(source: DataSource, pairs: Solved, flow: FlowNet, recipe: ShapesRecipe) -> Losses:
    """The map's objectives, and whole jumps against the ends of solved trajectories."""
    usual = map_losses(source, taught_by(flow), recipe)

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, MetaFlowMapNet) and isinstance(average, MetaFlowMapNet)
        some = pairs.pick(recipe.batch, generator)
        told, told_average = model.given(some.known), average.given(some.known)
        ends = losses.endpoints(told, told_average, some.draw())
        return {
            **usual(model, average, generator),
            "endpoints": weighting.adaptively_weighted(*ends, POWER),
        }

    return objective


def polish_map(
    net: MetaFlowMapNet,
    flow: FlowNet,
    source: DataSource,
    recipe: ShapesRecipe,
    folder: Path,
    report: Report,
) -> MetaFlowMapNet:
    """Train the map again, on solved trajectories too."""
    net = copy.deepcopy(net).requires_grad_(True)
    objective = polish_losses(source, solved_pairs(flow, recipe), flow, recipe)
    config = TrainConfig(
        recipe.polish_steps,
        learning_rate=recipe.polish_learning_rate,
        seed=recipe.seed + 4,
        ema=0.999,
    )
    trained = Trainer(net, objective, config, folder / "polish", report).run()
    assert isinstance(trained, MetaFlowMapNet)
    return trained
