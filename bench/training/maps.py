"""How a flow is matched to data, and how a meta flow map is distilled from a velocity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.core.integrate import Velocity
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.training import guidance, losses
from bench.training.draws import Draw, make_draw, make_draws
from bench.training.recipes import Recipe
from bench.training.sources import DataSource
from bench.training.trainer import Losses, Report, TrainConfig, Trainer

Teacher = Callable[[Known], Velocity]
"""What the networks are told -> the velocity that a map learns from, told the same."""


def taught_by(flow: FlowNet) -> Teacher:
    """A trained flow as the teacher."""
    return lambda known: flow.given(known).velocity


def flow_net(event_shape: tuple[int, ...], classes: int, recipe: Recipe) -> FlowNet:
    """The flow of a recipe, not trained."""
    return FlowNet(event_shape, recipe.flow_width, recipe.depth, classes, recipe.network)


def map_net(event_shape: tuple[int, ...], classes: int, recipe: Recipe) -> MetaFlowMapNet:
    """The meta flow map of a recipe, not trained."""
    sizes = recipe.map_width, recipe.depth, recipe.parametrisation
    return MetaFlowMapNet(event_shape, *sizes, classes, recipe.network)


def flow_losses(source: DataSource, recipe: Recipe) -> Losses:
    """Flow matching given what is told, with model guidance where a scale says so."""

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, FlowNet) and isinstance(average, FlowNet)
        x1, known = source.pick(recipe.batch, generator)
        t = torch.rand(len(x1), generator=generator)
        draw = make_draw(x1, t, t, t, generator)
        prediction, target = losses.flow_matching(model.given(known).velocity, draw)
        target = _guided(average, draw, known, target)
        return {"flow_matching": (prediction - target).flatten(1).square().sum(-1).mean()}

    return objective


@torch.no_grad()
def _guided(average: FlowNet, draw: Draw, known: Known, target: Tensor) -> Tensor:
    """The targets with those of the guided rows moved; only these rows are asked about."""
    if known.label is None or known.scale is None:
        return target
    rows = (known.scale != 1).nonzero()[:, 0]
    x, t, scale = draw.x_bar[rows], draw.t[rows], known.scale[rows]
    labelled = average.given(Known(known.label[rows], scale)).velocity(x, t)
    moved = guidance.model_guidance(target[rows], labelled, average.velocity(x, t), scale)
    return target.index_copy(0, rows, moved)


def train_flow(
    source: DataSource, recipe: Recipe, seed: int, folder: Path, report: Report
) -> FlowNet:
    """The base flow of a source."""
    torch.manual_seed(seed)
    net = flow_net(source.event_shape, source.classes, recipe)
    net.gaussian.fit(source.statistics.flatten(1))
    config = TrainConfig(
        recipe.flow_steps, learning_rate=recipe.learning_rate, seed=seed, ema=0.9995
    )
    trained = Trainer(net, flow_losses(source, recipe), config, folder / "flow", report).run()
    assert isinstance(trained, FlowNet)
    return trained


def map_losses(source: DataSource, teacher: Teacher, recipe: Recipe) -> Losses:
    """The recipe's diagonal on s = u plus its consistency on s < u, at shared data and contexts.

    Teacher and map are told the same.
    """

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, MetaFlowMapNet) and isinstance(average, MetaFlowMapNet)
        x1, known = source.pick(recipe.batch, generator)
        both = recipe.objective.build(teacher(known))
        draws = make_draws(x1, recipe.context_power, generator)
        return both(model.given(known), average.given(known), *draws)

    return objective


def train_map(
    source: DataSource, teacher: Teacher, recipe: Recipe, seed: int, folder: Path, report: Report
) -> MetaFlowMapNet:
    """Distil a velocity into a meta flow map."""
    torch.manual_seed(seed)
    net = map_net(source.event_shape, source.classes, recipe)
    net.gaussian.fit(source.statistics.flatten(1))
    config = TrainConfig(recipe.map_steps, learning_rate=recipe.learning_rate, seed=seed, ema=0.999)
    objective = map_losses(source, teacher, recipe)
    trained = Trainer(net, objective, config, folder / "map", report).run()
    assert isinstance(trained, MetaFlowMapNet)
    return trained
