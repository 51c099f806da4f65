"""Networks of the sizes that people steer, with random weights: what `benchmarks.gpu` times.

A DiT is flow and map, a decoder of Stable Diffusion's shape makes pictures of its latents, and a
vision transformer scores them.  Nothing is read from a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.core.cells import Cell
from bench.core.metering import Meter
from bench.core.methods import Method
from bench.core.metrics import Target
from bench.core.params import NoParams
from bench.core.place import Place
from bench.core.problem import Problem
from bench.core.tasks import Reward, Task
from bench.models.dit import DiT, DiTConfig, DiTFlow, DiTMap
from bench.models.latent_decoder import LatentDecoder
from bench.models.latents import SCALE
from bench.runner.instances import Instances
from bench.runner.problems import make_problem

# -- a decoder of Stable Diffusion's shape ---------------------------------------------------------

WIDTHS = (128, 256, 512, 512)
"""Channels of Stable Diffusion's autoencoder, from the picture inwards."""


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm x)))))."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        first, second = nn.GroupNorm(groups, inputs), nn.GroupNorm(groups, outputs)
        convs = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.body = nn.Sequential(first, nn.SiLU(), convs[0], second, nn.SiLU(), convs[1])
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + self.body(x)
        return out


class SpatialAttention(nn.Module):
    """One head over all places of the picture."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x).flatten(2).mT)[:, None].chunk(3, dim=-1)
        seen = functional.scaled_dot_product_attention(q, k, v)[:, 0]
        out: Tensor = x + self.out(seen).mT.reshape(x.shape)
        return out


class Doubled(nn.Module):
    """Twice the side, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0))
        return out


class ShapedDecoder(nn.Module):
    """The layers of the SD-VAE's decoder, three blocks a level, under names of their own."""

    dtype = torch.float32

    def __init__(self, widths: tuple[int, ...], channels: int = 4, groups: int = 32) -> None:
        super().__init__()
        inner = widths[-1]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, inner, 3, padding=1),
            Block(inner, inner, groups),
            SpatialAttention(inner, groups),
            Block(inner, inner, groups),
        ]
        for level, width in enumerate(reversed(widths)):
            sizes = (inner, width, width)
            layers += [Block(size, width, groups) for size in sizes]
            layers += [Doubled(width)] if level < len(widths) - 1 else []
            inner = width
        last = (nn.GroupNorm(groups, inner), nn.SiLU(), nn.Conv2d(inner, 3, 3, padding=1))
        self.layers = nn.Sequential(*layers, *last)

    def decode(self, z: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """As the decoder of diffusers."""
        return (self.layers(z),)


def autoencoder(widths: tuple[int, ...], groups: int) -> tuple[Any, str]:
    """What decodes, and whose layers it has: those of diffusers where they are installed."""
    try:
        if widths != WIDTHS:
            raise ImportError
        from diffusers import AutoencoderKL
    except ImportError:
        return ShapedDecoder(widths, groups=groups), "decoder of torch layers, of SD-VAE's shape"
    levels = len(widths)
    net = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=2,
        latent_channels=4,
    )
    return net, "decoder of diffusers"


# -- a reward of a CLIP's shape --------------------------------------------------------------------


@dataclass(frozen=True)
class TowerShape:
    """The picture tower of a CLIP; the defaults are ViT-H/14."""

    side: int = 224
    patch: int = 14
    width: int = 1280
    layers: int = 32
    heads: int = 16
    out: int = 1024


class Tower(nn.Module):
    """Pictures in [-1, 1] to the cosine with a fixed direction, (batch,)."""

    direction: Tensor

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape, width = shape, shape.width
        self.patches = nn.Conv2d(3, width, shape.patch, stride=shape.patch)
        self.places = nn.Parameter(0.02 * torch.randn((shape.side // shape.patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(TowerBlock(width, shape.heads) for _ in range(shape.layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, shape.out, bias=False)
        self.register_buffer("direction", functional.normalize(torch.randn(shape.out), dim=0))

    def forward(self, pictures: Tensor) -> Tensor:
        size = (self.shape.side, self.shape.side)
        seen = functional.interpolate(pictures, size, mode="bicubic", antialias=True)
        tokens = functional.pad(self.patches(seen).flatten(2).mT, (0, 0, 1, 0)) + self.places
        for block in self.blocks:
            tokens = block(tokens)
        features = functional.normalize(self.out(self.norm(tokens[:, 0])).float(), dim=-1)
        return features @ self.direction


class TowerBlock(nn.Module):
    """Attention, then a perceptron four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.mixed(seen.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.between(x))
        return out


# -- a world of them -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Of the networks; the defaults are XL/2, the SD-VAE and ViT-H."""

    net: DiTConfig = DiTConfig.xl2()
    widths: tuple[int, ...] = WIDTHS
    groups: int = 32
    tower: TowerShape = TowerShape()


TINY = Sizes(
    DiTConfig(8, 2, 4, hidden=32, depth=3, heads=4, classes=10, encoder_depth=2),
    widths=(8, 16),
    groups=4,
    tower=TowerShape(16, 4, width=32, layers=2, heads=2, out=16),
)


class RandomLatents(Task[NoParams]):
    """A flow and its map in latents, from networks that were never trained."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(NoParams())
        net = DiT(sizes.net).requires_grad_(False)
        self.flow, self.flow_map = DiTFlow(net), DiTMap(net)
        self.event_shape = sizes.net.event_shape
        vae, self.layers = autoencoder(sizes.widths, sizes.groups)
        self.decoder = LatentDecoder(vae, SCALE, rows=1 << 20).requires_grad_(False)
        self.decode = self.decoder.forward


class TowerScore(Reward[NoParams]):
    """The cosine of a picture with a direction that nobody chose."""

    learned = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(NoParams())
        self.tower = Tower(sizes.tower).requires_grad_(False)

    def __call__(self, x: Tensor, condition: object) -> Tensor:
        scores: Tensor = self.tower(x)
        return scores


STRENGTH = 10.0


@dataclass(frozen=True)
class World:
    """A task and a reward of the same sizes, on one device."""

    name: str
    task: RandomLatents
    reward: TowerScore
    device: str

    @classmethod
    def made(cls, name: str, sizes: Sizes, device: str, made_on: str = "") -> World:
        """Networks from seed 0; made elsewhere first where they have to equal those of a twin."""
        torch.manual_seed(0)
        with torch.device(made_on or device):
            task, reward = RandomLatents(sizes), TowerScore(sizes)
        for net in (task.flow, task.decoder, reward.tower):
            net.to(device)
        return cls(name, task, reward, device)

    def problem(
        self, method: Method[Any], n: int, dtype: str, meter: Meter, most_rows: int = 0
    ) -> tuple[Problem, Cell]:
        """What the runner hands a method, and the cell that stands for it."""
        place = Place(self.device, dtype)
        place.check()
        own = {"rows": float(most_rows)} if most_rows else {}
        cell = Cell(
            *(f"random-{self.name}", {}, f"tower-{self.name}", {}, STRENGTH, None, "", {}, n, 0),
            *(torch.get_num_threads(), {}, {}),
            dtype=dtype,
            device=self.device,
            resources=own,
        )
        target = Target(place.reward(self.reward, self.task), STRENGTH)
        instances = Instances(self.task, target, method, place=place)
        return make_problem(cell, instances, meter, range(n)), cell
