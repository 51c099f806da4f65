"""The small CLIP of `shapes`, on pictures and sentences that neither flow nor map ever sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.models.clip_small import SmallCLIP, tokens
from bench.models.shapes_prompts import sentence, told, wishes
from bench.models.shapes_render import draw_scenes, render_scenes
from bench.training.trainer import Losses, Report, TrainConfig, Trainer
from bench.worlds.shapes.recipe import ShapesRecipe

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
        x = render_scenes(scenes)
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
