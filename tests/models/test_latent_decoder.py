"""A decoder that rounds where it is asked to, and only there."""

import torch
from torch import nn

from bench.models.latent_decoder import LatentDecoder


class Convolution(nn.Module):
    """What an autoencoder of diffusers offers: a dtype, and pictures of latents."""

    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 3))

    def decode(self, z, return_dict=False):
        return (self.layers(z),)


def test_bfloat16_decodes_with_a_copy_and_leaves_the_weights():
    torch.manual_seed(0)
    decoder = LatentDecoder(Convolution(), 0.5, 0.1).requires_grad_(False)
    z = torch.randn(3, 4, 8, 8)
    exact, keys = decoder(z), list(decoder.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = decoder(z)
    error = float((rounded - exact).norm() / exact.norm())
    assert rounded.dtype == z.dtype
    assert 1e-4 < error < 2e-2
    assert torch.equal(decoder(z), exact)
    assert list(decoder.state_dict()) == keys


def test_gradients_come_through_the_copy():
    torch.manual_seed(0)
    decoder = LatentDecoder(Convolution(), 0.5).requires_grad_(False)
    z = torch.randn(2, 4, 8, 8, requires_grad=True)
    (exact,) = torch.autograd.grad(decoder(z).square().sum(), z)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(decoder(z).float().square().sum(), z)
    assert float((found - exact).norm() / exact.norm()) < 3e-2
