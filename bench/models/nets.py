"""The networks of the small worlds: a residual MLP whose blocks are modulated by times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from bench.core.integrate import same_everywhere


def time_features(*times: Tensor) -> Tensor:
    """Sines and cosines of each time (batch,) at half-periods 2, 1, 1/2, 1/4: (batch, 9 * times).

    Low frequencies only: derivative-based consistency losses diverge on fine embeddings.
    """
    frequencies = math.pi * torch.tensor([0.5, 1.0, 2.0, 4.0])
    parts = []
    for t in times:
        angle = t[:, None] * frequencies.to(t)
        parts += [t[:, None], angle.sin(), angle.cos()]
    return torch.cat(parts, dim=-1)


class ModulatedBlock(nn.Module):
    """x + gate(c) * MLP(LayerNorm(x) * (1 + scale(c)) + shift(c)); the identity at the start."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition, 3 * width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.modulation(condition).chunk(3, dim=-1)
        hidden = self.norm(x) * (1 + scale) + shift
        out: Tensor = x + gate * self.outer(nn.functional.silu(self.inner(hidden)))
        return out


GUIDED_SCALE = 2.5
GUIDANCE_SCALES = (1.0, GUIDED_SCALE)
"""Guidance scales that a class-conditional network is told (arXiv 2601.14430, Eqs. 69-70)."""


class LabelEmbedding(nn.Module):
    """Class label and guidance scale as one vector; label `classes` means "no class given".

    The table of scales starts at zero, so that a network trained without guidance is its w = 1.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.label = nn.Embedding(classes + 1, width)
        self.scale = nn.Embedding(len(GUIDANCE_SCALES), width)
        nn.init.normal_(self.label.weight, std=0.5)
        nn.init.zeros_(self.scale.weight)

    def forward(self, label: Tensor, scale: Tensor) -> Tensor:
        """(batch,) labels and (batch,) scales, each the nearest of SCALES -> (batch, width)."""
        known = torch.tensor(GUIDANCE_SCALES).to(scale)
        nearest = (scale[:, None] - known).abs().argmin(-1)
        out: Tensor = self.label(label) + self.scale(nearest)
        return out


class Modulated(nn.Module):
    """A network that times, and labels if it knows any, modulate."""

    embed: nn.Sequential
    labels: LabelEmbedding | None

    def conditioning(
        self, times: Sequence[Tensor], label: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        """The vector that modulates the blocks, (batch, condition) or one row for all."""
        known: list[Tensor] = []
        if self.labels is not None:
            none = torch.full_like(times[0], self.labels.classes, dtype=torch.long)
            known = [none if label is None else label]
            known.append(torch.ones_like(times[0]) if scale is None else scale)
        # Sampling shares its times over the batch: one row of conditioning then serves all.
        if all(map(same_everywhere, (*times, *known))):
            times, known = [t[:1] for t in times], [value[:1] for value in known]
        embedded: Tensor = self.embed(time_features(*times))
        if self.labels is not None:
            embedded = embedded + self.labels(*known)
        return embedded


def time_embedding(times: int, width: int) -> nn.Sequential:
    """Features of the times, through two layers."""
    return nn.Sequential(nn.Linear(9 * times, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())


class ModulatedMLP(Modulated):
    """(features, times, label) -> output; the last layer starts at zero.

    `classes` = 0 makes an unconditional network, without any parameter for labels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        times: int,
        width: int,
        depth: int,
        condition: int = 128,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.embed = time_embedding(times, condition)
        self.blocks = nn.ModuleList(ModulatedBlock(width, condition) for _ in range(depth))
        last = nn.Linear(width, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.leave = nn.Sequential(nn.LayerNorm(width), last)
        self.labels = LabelEmbedding(classes, condition) if classes else None

    def forward(
        self,
        features: Tensor,
        times: Sequence[Tensor],
        label: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        condition = self.conditioning(times, label, scale)
        hidden = self.enter(features)
        for block in self.blocks:
            hidden = block(hidden, condition)
        out: Tensor = self.leave(hidden)
        return out


class DigitClassifier(nn.Module):
    """A small convolutional classifier; `features` is its penultimate layer."""

    entrances: ClassVar = ("forward",)

    def __init__(self, features: int, classes: int = 10, channels: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, 2 * channels, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * 4, features),
        )
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """(batch, 1, 8, 8) -> (batch, features)."""
        out: Tensor = self.body(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Class logits, (batch, classes)."""
        out: Tensor = self.head(nn.functional.silu(self.features(x)))
        return out
