"""How the `shapes` world is trained: labels only, on endless renders.

An autoencoder; flow matching on its latents with class dropout and model guidance; a meta flow map
distilled from the flow; and a small CLIP on pictures and sentences, which neither of them ever
sees.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from bench.models.autoencoder import Autoencoder, Code, evidence
from bench.models.clip_small import SmallCLIP, tokens
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.models.nets import GUIDED
from bench.models.shapes_prompts import sentence, told, wishes
from bench.models.shapes_render import SHAPES, SIDE, draw_scenes, pictures, render
from bench.training import guidance, losses
from bench.training.objectives import POWER
from bench.training.ode_pairs import Solved, solve
from bench.training.recipes import Recipe
from bench.training.trainer import Losses, Report, TrainConfig, Trainer

NULL = len(SHAPES)
"""The label of no label."""


@dataclass(frozen=True)
class ShapesRecipe(Recipe):
    """A recipe with latents and labels.

    latents, code_width, pixel_noise: of the autoencoder.  A smaller noise keeps what pictures show
    further apart in the latents, and a flow that lands between two of them is rarer: 92 % of
    50-step samples showed their label at 0.7, 96 % at 0.35 with a fifth of the training.
    pool: pictures that are encoded once and for all; every visit draws another latent of one.
    polish_steps: a second training of the map, from its average, in which `pairs` solved
    trajectories of the flow, in `pair_steps` steps of Heun, teach it the whole jump from noise too.
    label_dropout: share of rows without a label.  guided_share: share of the labelled rows that
    model guidance trains at scale `GUIDED`.
    """

    latents: int = 16
    code_width: int = 512
    code_steps: int = 3000
    code_batch: int = 128
    pixel_noise: float = 0.3
    pool: int = 60_000
    polish_steps: int = 12_000
    polish_learning_rate: float = 7e-4
    pairs: int = 400_000
    pair_steps: int = 8
    label_dropout: float = 0.15
    guided_share: float = 0.25
    clip_steps: int = 2500
    clip_batch: int = 128

    def training(self) -> dict[str, float]:
        """Paper-nfe of flow and map: as everywhere, and two forwards more for a guided row.

        Of a solved pair: its trajectory, and a forward and a backward whenever it is drawn.
        """
        plain, guided = super().training(), (1 - self.label_dropout) * self.guided_share
        extra = 2 * guided * self.batch * self.flow_steps
        share = 1 + self.polish_steps / self.map_steps
        solved = 2 * self.batch * self.polish_steps + 2 * self.pair_steps * self.pairs
        return {"flow": plain["flow"] + extra, "map": plain["map"] * share + solved}

    def shortened(self, factor: float) -> Self:
        """The same recipe with its training lengths multiplied."""
        own = ("code_steps", "polish_steps", "clip_steps", "pairs")
        lengths: dict[str, Any] = {k: max(1, int(getattr(self, k) * factor)) for k in own}
        return replace(super().shortened(factor), **lengths)


SHAPES_RECIPE = ShapesRecipe(
    flow_steps=12_000,
    map_steps=14_000,
    batch=256,
    map_width=384,
    flow_width=384,
    depth=3,
    context_power=1.3,
)


# -- latents ---------------------------------------------------------------------------------------


def code_losses(recipe: ShapesRecipe) -> Losses:
    """The evidence bound on fresh renders."""

    def objective(
        model: nn.Module, _: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, Autoencoder)
        x = render(draw_scenes(recipe.code_batch, generator))
        noise = torch.randn(len(x), recipe.latents, generator=generator)
        reconstruction, code = model(x, noise)
        return {"evidence": evidence(x, reconstruction, code, recipe.pixel_noise)}

    return objective


def train_autoencoder(recipe: ShapesRecipe, folder: Path, report: Report) -> Autoencoder:
    """Pictures to latents and back."""
    torch.manual_seed(recipe.seed)
    net = Autoencoder((3, SIDE, SIDE), recipe.latents, recipe.code_width)
    config = TrainConfig(recipe.code_steps, learning_rate=2e-3, seed=recipe.seed, ema=0.998)
    trained = Trainer(net, code_losses(recipe), config, folder / "code", report).run()
    assert isinstance(trained, Autoencoder)
    return trained


class Pool(NamedTuple):
    """Codes of renders and their labels, (n, latents) twice and (n,)."""

    code: Code
    label: Tensor

    def pick(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n random rows: (latents drawn from their codes, labels)."""
        rows = torch.randint(len(self.label), (n,), generator=generator)
        return self.code.pick(rows, generator), self.label[rows]


@torch.no_grad()
def make_pool(autoencoder: Autoencoder, n: int, seed: int, chunk: int = 2_000) -> Pool:
    """n renders, a function of the seed, encoded in chunks: as pictures they would fill memory."""
    parts = []
    for start in range(0, n, chunk):
        x, scenes = pictures(min(chunk, n - start), seed * 1_000_003 + start)
        parts.append(Pool(autoencoder.encode(x), scenes.shape))
    means, sigmas = zip(*(part.code for part in parts), strict=True)
    return Pool(Code(torch.cat(means), torch.cat(sigmas)), torch.cat([p.label for p in parts]))


def batch_of(
    pool: Pool, recipe: ShapesRecipe, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One step's latents (batch, latents), their labels with dropout, and guidance scales."""
    x1, label = pool.pick(recipe.batch, generator)
    label = guidance.drop_labels(label, NULL, recipe.label_dropout, generator)
    return x1, label, guidance.draw_scales(label, NULL, GUIDED, recipe.guided_share, generator)


# -- flow and map ----------------------------------------------------------------------------------


def flow_losses(pool: Pool, recipe: ShapesRecipe) -> Losses:
    """Flow matching given the label, with model guidance where a scale says so."""

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, FlowNet) and isinstance(average, FlowNet)
        x1, label, scale = batch_of(pool, recipe, generator)
        known = Known(label, scale)
        t = torch.rand(len(x1), generator=generator)
        draw = losses.make_draw(x1, t, t, t, generator)
        prediction, target = losses.flow_matching(model.given(known).velocity, draw)
        target = guided(average, draw, known, target)
        return {"flow_matching": (prediction - target).flatten(1).square().sum(-1).mean()}

    return objective


@torch.no_grad()
def guided(average: FlowNet, draw: losses.Draw, known: Known, target: Tensor) -> Tensor:
    """The targets with those of the guided rows moved; only these rows are asked about."""
    assert known.label is not None and known.scale is not None
    rows = (known.scale != 1).nonzero()[:, 0]
    x, t, scale = draw.x_bar[rows], draw.t[rows], known.scale[rows]
    labelled = average.given(Known(known.label[rows], scale)).velocity(x, t)
    moved = guidance.model_guidance(target[rows], labelled, average.velocity(x, t), scale)
    return target.index_copy(0, rows, moved)


def train_flow(pool: Pool, recipe: ShapesRecipe, folder: Path, report: Report) -> FlowNet:
    """The class-conditional base flow of the latents."""
    torch.manual_seed(recipe.seed + 1)
    net = FlowNet((recipe.latents,), recipe.flow_width, recipe.depth, len(SHAPES))
    net.gaussian.fit(pool.code.mean)
    config = TrainConfig(
        recipe.flow_steps, learning_rate=recipe.learning_rate, seed=recipe.seed + 1, ema=0.9995
    )
    trained = Trainer(net, flow_losses(pool, recipe), config, folder / "flow", report).run()
    assert isinstance(trained, FlowNet)
    return trained


def map_losses(pool: Pool, teacher: FlowNet, recipe: ShapesRecipe) -> Losses:
    """The recipe's diagonal and consistency, teacher and map being told the same."""

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, MetaFlowMapNet) and isinstance(average, MetaFlowMapNet)
        x1, *told_of = batch_of(pool, recipe, generator)
        known = Known(*told_of)
        both = recipe.objective.build(teacher.given(known).velocity)
        on, off = losses.make_draws(x1, recipe.context_power, generator)
        return both(model.given(known), average.given(known), on, off)

    return objective


def train_map(
    flow: FlowNet, pool: Pool, recipe: ShapesRecipe, folder: Path, report: Report
) -> MetaFlowMapNet:
    """The meta flow map, distilled from the flow label by label."""
    torch.manual_seed(recipe.seed + 2)
    net = MetaFlowMapNet(
        (recipe.latents,), recipe.map_width, recipe.depth, recipe.parametrisation, len(SHAPES)
    )
    net.gaussian.load_state_dict(flow.gaussian.state_dict())
    config = TrainConfig(
        recipe.map_steps, learning_rate=recipe.learning_rate, seed=recipe.seed + 2, ema=0.999
    )
    trained = Trainer(net, map_losses(pool, flow, recipe), config, folder / "map", report).run()
    assert isinstance(trained, MetaFlowMapNet)
    return trained


def solved_pairs(flow: FlowNet, recipe: ShapesRecipe) -> Solved:
    """Trajectories of the flow from fresh noise, with labels and scales as in training."""
    generator = torch.Generator().manual_seed(recipe.seed + 4)
    noise = torch.randn(recipe.pairs, recipe.latents, generator=generator)
    label = torch.randint(len(SHAPES), (recipe.pairs,), generator=generator)
    label = guidance.drop_labels(label, NULL, recipe.label_dropout, generator)
    scale = guidance.draw_scales(label, NULL, GUIDED, recipe.guided_share, generator)
    return solve(flow, noise, Known(label, scale), recipe.pair_steps)


def polish_losses(pool: Pool, pairs: Solved, teacher: FlowNet, recipe: ShapesRecipe) -> Losses:
    """The map's objectives, and whole jumps against the ends of solved trajectories."""
    usual = map_losses(pool, teacher, recipe)

    def objective(
        model: nn.Module, average: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, MetaFlowMapNet) and isinstance(average, MetaFlowMapNet)
        some = pairs.pick(recipe.batch, generator)
        told, told_average = model.given(some.known), average.given(some.known)
        ends = losses.endpoints(told, told_average, some.draw())
        return {**usual(model, average, generator), "endpoints": losses.adaptive(*ends, POWER)}

    return objective


def polish_map(
    net: MetaFlowMapNet,
    flow: FlowNet,
    pool: Pool,
    recipe: ShapesRecipe,
    folder: Path,
    report: Report,
) -> MetaFlowMapNet:
    """Train the map again, on solved trajectories too."""
    net = copy.deepcopy(net).requires_grad_(True)
    objective = polish_losses(pool, solved_pairs(flow, recipe), flow, recipe)
    config = TrainConfig(
        recipe.polish_steps,
        learning_rate=recipe.polish_learning_rate,
        seed=recipe.seed + 4,
        ema=0.999,
    )
    trained = Trainer(net, objective, config, folder / "polish", report).run()
    assert isinstance(trained, MetaFlowMapNet)
    return trained


# -- the reward's model ----------------------------------------------------------------------------

MAX_NOISE = 0.3
"""Largest standard deviation of the pixel noise that the CLIP learns to ignore."""


def clip_losses(recipe: ShapesRecipe) -> Losses:
    """Symmetric cross-entropy between pictures and sentences of one batch.

    Sentences leave attributes out, so several may be true of a picture: the loss is then a density
    ratio, as it should be.  Half of the pictures are noisy, since rewards are asked about drawings
    that are not clean.
    """

    def objective(
        model: nn.Module, _: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        scenes = draw_scenes(recipe.clip_batch, generator)
        x = render(scenes)
        level = (2 * torch.rand(len(x), 1, 1, 1, generator=generator) - 1).clamp(min=0)
        x = x + MAX_NOISE * level * torch.randn(x.shape, generator=generator)
        said = [sentence(told(wish, 0.75, generator)) for wish in wishes(scenes)]
        logits, own = model(x, tokens(said)), torch.arange(len(x))
        cross_entropy = nn.functional.cross_entropy
        return {"contrastive": (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2}

    return objective


def train_clip(recipe: ShapesRecipe, folder: Path, report: Report) -> SmallCLIP:
    """The prompt reward's model."""
    torch.manual_seed(recipe.seed + 3)
    config = TrainConfig(recipe.clip_steps, seed=recipe.seed + 3, ema=0.995)
    trained = Trainer(SmallCLIP(), clip_losses(recipe), config, folder / "clip", report).run()
    assert isinstance(trained, SmallCLIP)
    return trained
