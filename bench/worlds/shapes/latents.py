"""The latents of `shapes`: an autoencoder, and a pool of encoded renders to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.core.devices import device_of
from bench.models.autoencoder import Autoencoder, Code, evidence
from bench.models.meta_flow_map import Known
from bench.models.nets import GUIDED_SCALE
from bench.models.shapes_render import SHAPES, SIDE, draw_scenes, pictures, render_scenes
from bench.training import guidance
from bench.training.sources import DataSource
from bench.training.trainer import Losses, Report, TrainConfig, Trainer
from bench.worlds.shapes.recipe import ShapesRecipe

NULL = len(SHAPES)
"""The label of no label."""


def code_losses(recipe: ShapesRecipe) -> Losses:
    """The evidence bound on fresh renders."""

    def objective(
        model: nn.Module, _: nn.Module, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        assert isinstance(model, Autoencoder)
        x = render_scenes(draw_scenes(recipe.code_batch, generator))
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
        mean, sigma = autoencoder.encode(x.to(device_of(autoencoder)))
        parts.append(Pool(Code(mean.cpu(), sigma.cpu()), scenes.shape))
    means, sigmas = zip(*(part.code for part in parts), strict=True)
    return Pool(Code(torch.cat(means), torch.cat(sigmas)), torch.cat([p.label for p in parts]))


def labelled(pool: Pool, recipe: ShapesRecipe) -> DataSource:
    """Latents of the pool with their labels, some of them dropped, and guidance scales."""

    def pick(n: int, generator: torch.Generator) -> tuple[Tensor, Known]:
        x1, label = pool.pick(n, generator)
        return x1, told_of(label, recipe, generator)

    return DataSource(pick, pool.code.mean, len(SHAPES))


def told_of(label: Tensor, recipe: ShapesRecipe, generator: torch.Generator) -> Known:
    """What networks are told: labels (n,) with dropout, and the scales of model guidance."""
    how = NULL, recipe.label_dropout, GUIDED_SCALE, recipe.guided_share
    return guidance.told(label, *how, generator)
