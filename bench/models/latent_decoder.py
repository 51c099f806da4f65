"""From the latents of a flow to pictures, through the decoder of an autoencoder of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LatentDecoder(nn.Module):
    """Pictures (n, 3, height, width), about [-1, 1], of latents: decode(z / scale + shift).

    scale, shift: numbers, or tensors (1, channels, 1, 1).  dtype: of the decoder inside; the
    pictures have the latents'.  rows: latents that are decoded at once.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        vae: Any,
        scale: float | Tensor,
        shift: float | Tensor = 0.0,
        dtype: torch.dtype = torch.float32,
        rows: int = 8,
    ) -> None:
        super().__init__()
        self.vae = vae if vae.dtype == dtype else vae.to(dtype)
        self.dtype, self.rows = dtype, rows
        self.register_buffer("scale", torch.as_tensor(scale), persistent=False)
        self.register_buffer("shift", torch.as_tensor(shift), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Differentiable; piece by piece."""
        return torch.cat([self._piece(piece) for piece in torch.split(z, self.rows)])

    def _piece(self, z: Tensor) -> Tensor:
        inside = (z / self.scale + self.shift).to(self.dtype)
        picture: Tensor = self.vae.decode(inside, return_dict=False)[0]
        return picture.to(z.dtype)
