"""A small variational autoencoder: pictures as short vectors, near a standard normal in all.

Flows live in the latents, rewards in the pictures; what joins them is a decoder, which costs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Code(NamedTuple):
    """q(z | x) = N(mean, diag(sigma^2)), each (batch, latents)."""

    mean: Tensor
    sigma: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """z = mean + sigma * noise, (batch, latents)."""
        return self.mean + self.sigma * noise

    def pick(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of some rows (n,), drawn anew from their codes."""
        mean = self.mean[rows]
        return mean + self.sigma[rows] * torch.randn(mean.shape, generator=generator)

    def divergence(self) -> Tensor:
        """KL(q || N(0, I)) in nats, (batch,)."""
        square = self.mean.square() + self.sigma.square()
        return (square - 1 - 2 * self.sigma.log()).sum(-1) / 2


class Autoencoder(nn.Module):
    """Two MLPs; pictures (batch, *data_shape) in [-1, 1], latents (batch, latents)."""

    entrances: ClassVar = ("forward",)

    def __init__(self, data_shape: tuple[int, ...], latents: int, width: int) -> None:
        super().__init__()
        self.data_shape, pixels = data_shape, int(torch.Size(data_shape).numel())
        self.encoder = stack(pixels, width, width // 2, 2 * latents)
        self.decoder = stack(latents, width // 2, width, pixels)

    def encode(self, x: Tensor) -> Code:
        """q(z | x)."""
        mean, spread = self.encoder(x.flatten(1)).chunk(2, dim=-1)
        # sigma in (0, 1): no code is wider than all codes together.
        return Code(mean, torch.sigmoid(spread))

    def decode(self, z: Tensor) -> Tensor:
        """The picture of a latent; defined, and differentiable, everywhere."""
        return torch.tanh(self.decoder(z)).reshape(len(z), *self.data_shape)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Code]:
        """A picture through a random code of it: (reconstruction, code)."""
        code = self.encode(x)
        return self.decode(code.draw(noise)), code


def stack(*sizes: int) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def evidence(x: Tensor, reconstruction: Tensor, code: Code, sigma: float) -> Tensor:
    """-ELBO per pixel with pixel noise sigma, up to a constant: mean over the batch.

    (|x - D(z)|^2 / (2 sigma^2) + KL(q(z|x) || N(0, I))) / pixels   (Kingma & Welling, 1312.6114)
    """
    error = (x - reconstruction).flatten(1).square().sum(-1) / (2 * sigma**2)
    return (error + code.divergence()).mean() / x[0].numel()
