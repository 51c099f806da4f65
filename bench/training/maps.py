"""How a flow is matched to data, and how a meta flow map is distilled from a velocity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.core.params import UserError
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.training import guidance, losses
from bench.training.draws import Draw, make_draw, make_draws
from bench.training.recipes import Recipe
from bench.training.sources import DataSource
from bench.training.trainer import Losses, Report, TrainConfig, Trainer

Teacher = guidance.Teacher


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
    rows = guidance.guided_rows(known.scale)
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
    config = TrainConfig(recipe.flow_steps, seed=seed, ema=recipe.flow_ema, **recipe.optimising)
    trained = Trainer(net, flow_losses(source, recipe), config, folder / "flow", report).run()
    assert isinstance(trained, FlowNet)
    return trained


@dataclass(frozen=True)
class MapLosses:
    """The recipe's diagonal on s = u plus its consistency on s < u, at shared data and contexts.

    Teacher and map are told the same; targets that are random velocities of the data are guided
    where a scale says so.  At first the recipe may ask for the diagonal alone, and for narrow pairs
    (s, u) then; called without a step, the losses are those of the end.
    """

    source: DataSource
    teacher: Teacher
    recipe: Recipe
    width: float = 1.0

    def at(self, step: int) -> MapLosses:
        """The losses of a step."""
        return replace(self, width=self.recipe.width(step))

    def __call__(
        self, model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, MetaFlowMapNet) and isinstance(average, MetaFlowMapNet)
        x1, known = self.source.pick(self.recipe.batch, generator)
        objective = self.recipe.objective
        diagonal, pair = make_draws(x1, self.recipe.context_power, generator)
        if self.width < 1:
            pair = pair.narrowed(self.width)
        if objective.is_from_data:
            diagonal, pair = (guided_draw(average, draw, known) for draw in (diagonal, pair))
        both = objective.build(self.teacher(known))
        told = model.given(known), average.given(known)
        return both(*told, diagonal, pair if self.width > 0 else None)


def map_losses(source: DataSource, teacher: Teacher, recipe: Recipe) -> MapLosses:
    """What a map is trained on."""
    return MapLosses(source, teacher, recipe)


@torch.no_grad()
def guided_draw(average: MetaFlowMapNet, draw: Draw, known: Known) -> Draw:
    """The draw with what model guidance adds to the velocity of its guided rows.

    omega (v_{s,s}(x_bar; t, x, y, w) - v_{s,s}(x_bar; t, x, none, 1)): without it, rows that are
    told w would learn the velocity of w = 1.
    """
    if known.label is None or known.scale is None:
        return draw
    rows = guidance.guided_rows(known.scale)
    at = draw.x_bar[rows], draw.s[rows], draw.s[rows], draw.x[rows], draw.t[rows]
    scale = known.scale[rows]
    labelled = average.given(Known(known.label[rows], scale)).velocity(*at)
    nothing = torch.zeros_like(labelled)
    moved = guidance.model_guidance(nothing, labelled, average.velocity(*at), scale)
    return replace(draw, shift=torch.zeros_like(draw.x1).index_copy(0, rows, moved))


@torch.no_grad()
def start_from_flow(net: MetaFlowMapNet, flow: FlowNet) -> None:
    """Copy a flow's weights into a map, which then has v_{s,u}(x_bar; 0, .) = b_s(x_bar).

    The map's first layers see more, the context after the state and two times after s: what the
    flow has no weights for starts at zero.  UserError where the sizes differ.
    """
    own, given = net.state_dict(), flow.state_dict()
    for name, value in given.items():
        target = own.get(name)
        rest = None if target is None else target.shape[:1] + target.shape[2:]
        if target is None or rest != value.shape[:1] + value.shape[2:]:
            raise UserError(
                f"a map cannot start from this flow, whose {name} has another size: give both the "
                "same width, --set flow_width=... and map_width=..."
            )
    for name, value in given.items():
        target = own[name]
        if target.shape != value.shape:
            target.zero_()
            target = target[:, : value.shape[1]]
        target.copy_(value)


def train_map(
    source: DataSource,
    teacher: Teacher,
    recipe: Recipe,
    seed: int,
    folder: Path,
    report: Report,
    flow: FlowNet | None = None,
) -> MetaFlowMapNet:
    """Distil a velocity into a meta flow map, which starts from `flow` where the recipe says."""
    torch.manual_seed(seed)
    net = map_net(source.event_shape, source.classes, recipe)
    net.gaussian.fit(source.statistics.flatten(1))
    if recipe.start == "flow":
        if flow is None:
            raise UserError("there is no flow of ours to start the map from: take start=random")
        if ":" in recipe.network:
            raise UserError(
                f"nobody knows which weights of {recipe.network} see what: take start=random"
            )
        start_from_flow(net, flow)
    config = TrainConfig(recipe.map_steps, seed=seed, ema=recipe.map_ema, **recipe.optimising)
    objective = map_losses(source, teacher, recipe)
    trained = Trainer(net, objective, config, folder / "map", report).run()
    assert isinstance(trained, MetaFlowMapNet)
    return trained
