"""From the latents of a flow to pictures, through the decoder of an autoencoder of diffusers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.flops import Unbuilt


class LatentDecoder(nn.Module):
    """Pictures (n, 3, height, width), about [-1, 1], of latents: decode(z / scale + shift).

    scale, shift: numbers, or tensors (1, channels, 1, 1).  dtype: of the decoder inside; the
    pictures have the latents'.  rows: latents that are decoded at once.

    Where autocast asks for bfloat16, a copy of the decoder whose weights are rounded decodes:
    convolutions would round them anyway, and norms in between need no float32 tensors then (on an
    H100 three quarters of the time and 24 GiB for 39; channels last is slower there).
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
        # In a tuple, so that it is no part of this module's state.
        self._narrow: tuple[Any] | None = None
        self.register_buffer("scale", torch.as_tensor(scale), persistent=False)
        self.register_buffer("shift", torch.as_tensor(shift), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Differentiable; piece by piece."""
        return torch.cat([self._piece(piece) for piece in torch.split(z, self.rows)])

    def _piece(self, z: Tensor) -> Tensor:
        inside = z / self.scale + self.shift
        if self.dtype != torch.bfloat16 and _asked_for_bfloat16(z):
            with torch.autocast(z.device.type, enabled=False):
                return self._decoded(self._rounded(z.device), inside.bfloat16()).to(z.dtype)
        return self._decoded(self.vae, inside.to(self.dtype)).to(z.dtype)

    @staticmethod
    def _decoded(vae: Any, inside: Tensor) -> Tensor:
        picture: Tensor = vae.decode(inside, return_dict=False)[0]
        return picture

    def _rounded(self, device: torch.device) -> Any:
        """The decoder in bfloat16, made once; what it was made from keeps its weights."""
        if self._narrow is None:
            self._narrow = (copy.deepcopy(self.vae).bfloat16(),)
        return self._narrow[0].to(device)


def unbuilt_decoder(build: Callable[[], Any], latent: tuple[int, ...]) -> Unbuilt:
    """The decoder of the autoencoder that `build` makes, for a count of a latent's FLOPs alone."""

    def make() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        vae = build().requires_grad_(False)
        return (lambda z: vae.decode(z, return_dict=False)[0]), (torch.zeros(2, *latent),)

    return make


def _asked_for_bfloat16(z: Tensor) -> bool:
    kind = z.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
