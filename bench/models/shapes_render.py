"""The `shapes` world as a renderer: endless, seeded pictures of coloured shapes.

A picture shows one shape, or two small ones side by side, in one of four colours on white or black.
All lengths are in 16ths of a picture's side, so that any number of pixels can be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

SIDE = 32
"""Pixels along each side, unless said otherwise."""
UNITS_PER_SIDE = 16
"""Lengths are in UNITSths of the side."""
SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow")
SIZES = ("small", "large")
BACKGROUNDS = ("white", "black")
PLACES = ("on the left", "in the middle", "on the right", "side by side")
"""Three places of one shape, then that of a pair."""

SINGLES = 3
PAIR_PROBABILITY = 0.2
RADIUS = (2.75, 4.75)
"""Half the extent of a small and of a large shape."""
OFFSET = (4.25, 2.75)
"""Distance from the middle of a shape on the left or right, by size."""
JITTER = 0.25
"""Positions are uniform within this distance of their place, along each axis."""

PALETTE = torch.tensor(
    [
        [0.90, 0.12, 0.12],
        [0.12, 0.70, 0.20],
        [0.15, 0.30, 0.90],
        [0.95, 0.85, 0.12],
    ]
)
"""RGB in [0, 1] of COLOURS."""
GROUND = torch.tensor([0.95, 0.05])
"""Grey levels of BACKGROUNDS."""
TINT = 0.025
"""Standard deviation of every colour channel and of the ground's grey level."""

# Displacement of the first and the second object, in units of OFFSET to the right, by place.
_DIRECTION = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-1.0, 1.0]])


@dataclass(frozen=True)
class Scenes:
    """What n pictures show; every field has n rows.

    shape, colour, size, place, background: indices into the lists of words.
    centre: (n, 2, 2) object, (x right, y down), in pixels from the middle; radius: (n,).
    rgb: (n, 3) and ground: (n,) in [0, 1].
    """

    shape: Tensor
    colour: Tensor
    size: Tensor
    place: Tensor
    background: Tensor
    centre: Tensor
    radius: Tensor
    rgb: Tensor
    ground: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    @property
    def count(self) -> Tensor:
        """One or two, (n,)."""
        return 1 + (self.place >= SINGLES).long()

    def __getitem__(self, rows: Tensor | slice) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def draw_scenes(n: int, generator: torch.Generator) -> Scenes:
    """n scenes: shapes, colours and grounds uniform, a pair with probability 0.2 (always small)."""

    def pick(k: int) -> Tensor:
        return torch.randint(k, (n,), generator=generator)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    shape, colour, background = pick(len(SHAPES)), pick(len(COLOURS)), pick(len(BACKGROUNDS))
    pair = torch.rand(n, generator=generator) < PAIR_PROBABILITY
    place = torch.where(pair, SINGLES, pick(SINGLES))
    size = torch.where(pair, 0, pick(len(SIZES)))
    centre = JITTER * uniform(n, 2, 2)
    centre[:, :, 0] += torch.tensor(OFFSET)[size, None] * _DIRECTION[place]
    radius = torch.tensor(RADIUS)[size]
    tint = TINT * torch.randn(n, 4, generator=generator)
    rgb = (PALETTE[colour] + tint[:, :3]).clamp(0, 1)
    ground = (GROUND[background] + tint[:, 3]).clamp(0, 1)
    return Scenes(shape, colour, size, place, background, centre, radius, rgb, ground)


def circle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Signed distance to the disc of radius r: negative inside.  x right, y down."""
    return (x.square() + y.square()).sqrt() - r


def square(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """To the square of half-side 0.88 r, in the maximum norm outside its corners."""
    return torch.maximum(x.abs(), y.abs()) - 0.88 * r


def triangle(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """To the triangle of base 2 r and height 1.7 r, whose centroid is the origin."""
    sides = (1.7 * x.abs() - (y + 1.1 * r)) / (1.7**2 + 1) ** 0.5
    return torch.maximum(y - 0.6 * r, sides)


def cross(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """To the union of two bars of length 2 r and width 2 r / 3."""
    x, y = x.abs(), y.abs()
    across, upright = torch.maximum(x - r, y - r / 3), torch.maximum(x - r / 3, y - r)
    return torch.minimum(across, upright)


SIGNED_DISTANCES = (circle, square, triangle, cross)
"""In the order of SHAPES."""


def pixel_grid(side: int = SIDE) -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres, (side, side) each, from the middle, in 16ths of the side."""
    at = (torch.arange(side) + 0.5) * UNITS_PER_SIDE / side - UNITS_PER_SIDE / 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    return x, y


def covered(shape: Tensor, centre: Tensor, radius: Tensor, side: int = SIDE) -> Tensor:
    """The share of every pixel inside one shape, anti-aliased: (n, side, side).

    shape: (n,) indices; centre: (n, 2) and radius: (n,) in units of a 16th of the side.
    """
    x, y = pixel_grid(side)
    dx, dy = (x - centre[:, 0, None, None]), (y - centre[:, 1, None, None])
    out = torch.empty_like(dx)
    for k, distance in enumerate(SIGNED_DISTANCES):
        rows = (shape == k).nonzero()[:, 0]
        out[rows] = distance(dx[rows], dy[rows], radius[rows, None, None])
    return (0.5 - out * side / UNITS_PER_SIDE).clamp(0, 1)


def coverage(scenes: Scenes, side: int = SIDE) -> Tensor:
    """The share of every pixel that ink covers, (n, side, side)."""
    ink = covered(scenes.shape, scenes.centre[:, 0], scenes.radius, side)
    pairs = (scenes.count == 2).nonzero()[:, 0]
    two = scenes[pairs]
    second = covered(two.shape, two.centre[:, 1], two.radius, side)
    ink[pairs] = torch.maximum(ink[pairs], second)
    return ink


def render_scenes(scenes: Scenes, side: int = SIDE) -> Tensor:
    """Pictures (n, 3, side, side) in [-1, 1]."""
    ink = coverage(scenes, side)[:, None]
    picture = ink * scenes.rgb[:, :, None, None] + (1 - ink) * scenes.ground[:, None, None, None]
    return 2 * picture - 1


def pictures(n: int, seed: int, side: int = SIDE) -> tuple[Tensor, Scenes]:
    """n pictures and their scenes, a function of the seed."""
    scenes = draw_scenes(n, torch.Generator().manual_seed(seed))
    return render_scenes(scenes, side), scenes
