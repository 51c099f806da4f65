"""The networks of the small worlds: a residual MLP whose blocks are modulated by times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


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


class ModulatedMLP(nn.Module):
    """(features, times) -> output; the last layer starts at zero."""

    def __init__(
        self, inputs: int, outputs: int, times: int, width: int, depth: int, condition: int = 128
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.embed = nn.Sequential(
            nn.Linear(9 * times, condition), nn.SiLU(), nn.Linear(condition, condition), nn.SiLU()
        )
        self.blocks = nn.ModuleList(ModulatedBlock(width, condition) for _ in range(depth))
        last = nn.Linear(width, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.leave = nn.Sequential(nn.LayerNorm(width), last)

    def forward(self, features: Tensor, times: Sequence[Tensor]) -> Tensor:
        # Sampling shares its times over the batch: one row of conditioning then serves all.
        shared = all(bool((t == t[0]).all()) for t in times)
        condition = self.embed(time_features(*(t[:1] if shared else t for t in times)))
        hidden = self.enter(features)
        for block in self.blocks:
            hidden = block(hidden, condition)
        out: Tensor = self.leave(hidden)
        return out


class Classifier(nn.Module):
    """A small convolutional classifier; `features` is its penultimate layer."""

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
