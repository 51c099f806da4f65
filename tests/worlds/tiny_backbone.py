"""A network of somebody's own, and one that breaks the contract of backbones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.models.backbones import BackboneSpec


class Linear(nn.Module):
    """An affine map of state, context and times; labels shift it."""

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        size = int(torch.Size(spec.event_shape).numel())
        self.shape = spec.event_shape
        self.layer = nn.Linear(spec.parts * size + spec.times, size)
        self.shift = nn.Embedding(spec.classes + 1, size)

    def forward(
        self, x: Tensor, times: Sequence[Tensor], label: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        none = torch.full((len(x),), self.shift.num_embeddings - 1)
        out = self.layer(torch.cat([x.flatten(1), torch.stack([*times], 1)], 1))
        return (out + self.shift(none if label is None else label)).reshape(-1, *self.shape)


class Short(Linear):
    """Forgets half of the state."""

    def forward(self, *args: object) -> Tensor:
        return super().forward(*args)[:, :1]  # type: ignore[arg-type]
