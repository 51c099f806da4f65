"""The attribute judge: measures what a picture shows, from pixels, with nothing learnt.

    ground   median of every channel
    colour   the palette entry nearest to the mean of the pixels furthest from the ground
    ink      alpha = <pixel - ground, colour - ground> / |colour - ground|^2, clipped to [0, 1]
    count    connected regions of alpha > 1/2
    shape    the renderer's shape of the same area and centroid that leaves the least residual
    size     radius from the area of that shape
    place    centroid of a single shape, or direction from one of a pair to the other

A value that no word describes is -1, so a smear or a third blob never counts as a match.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.models.shapes_prompts import Wish
from bench.models.shapes_render import (
    GROUND,
    OFFSET,
    PALETTE,
    RADIUS,
    SHAPES,
    SINGLES,
    UNITS_PER_SIDE,
    covered,
    pixel_grid,
)

UNIT_AREA = torch.tensor([torch.pi, 1.76**2, 1.7, 20 / 9])
"""Areas of SHAPES at radius 1."""
SMALLEST_REGION = 3.0
"""Ink (in squares of a 16th of the side) below which a region is a speck."""
MAX_RESIDUAL = 0.2
"""|alpha - template|^2 / |alpha|^2 above which a region is no shape."""
MAX_COLOUR_ERROR = 0.35
"""Distance in RGB beyond which a colour has no name."""
MAX_HEIGHT = 2.0
"""Distance above or below the middle beyond which no place has a name."""
MIDDLE_RADIUS = sum(RADIUS) / 2


@dataclass(frozen=True)
class Attributes:
    """Indices of the words for every attribute, -1 where none fits; each (n,)."""

    shape: Tensor
    colour: Tensor
    size: Tensor
    place: Tensor
    background: Tensor
    count: Tensor
    residual: Tensor

    def matches(self, wish: Wish) -> dict[str, Tensor]:
        """Attribute -> whether it is as asked for, (n,), for the attributes that are asked for."""
        return {name: getattr(self, name) == value for name, value in wish.items()}

    def agreement(self, wish: Wish) -> Tensor:
        """Share of the attributes asked for that are right, (n,)."""
        return torch.stack([hit.float() for hit in self.matches(wish).values()]).mean(0)

    def all_match(self, wish: Wish) -> Tensor:
        """Whether everything is as asked for, (n,)."""
        return torch.stack(list(self.matches(wish).values())).all(0)


@torch.no_grad()
def measure(x: Tensor) -> Attributes:
    """What the pictures (n, 3, side, side) in [-1, 1] show."""
    picture = (x.detach().float().cpu().clamp(-1, 1) + 1) / 2
    ground = picture.flatten(2).median(-1).values
    background, ground_error = _nearest(ground, GROUND[:, None].expand(-1, 3))
    rgb = _ink_colour(picture, ground)
    colour, colour_error = _nearest(rgb, PALETTE)
    alpha = _ink(picture, ground, rgb)
    regions, count = _regions(alpha)
    fits = [_fit(region) for region in regions]
    first, second = fits
    pair = count == 2
    agree = ~pair | (first.shape == second.shape)
    residual = torch.where(pair, torch.maximum(first.residual, second.residual), first.residual)
    known = (count >= 1) & (count <= 2)
    clear = known & agree & (residual < MAX_RESIDUAL)
    place = torch.where(pair, _arrangement(first, second), _spot(first))
    return Attributes(
        shape=_or_none(first.shape, clear),
        colour=_or_none(colour, colour_error < MAX_COLOUR_ERROR),
        size=_or_none(first.size, known & (~pair | (first.size == second.size))),
        place=_or_none(place, known),
        background=_or_none(background, ground_error < MAX_COLOUR_ERROR),
        count=_or_none(count - 1, known),
        residual=residual,
    )


@dataclass(frozen=True)
class _Fit:
    """The best template of one region: indices, centroid (n, 2), relative residual."""

    shape: Tensor
    size: Tensor
    centre: Tensor
    residual: Tensor


def _or_none(index: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, index, -1)


def _nearest(values: Tensor, palette: Tensor) -> tuple[Tensor, Tensor]:
    """Index of and distance to the nearest palette entry."""
    found = torch.cdist(values, palette.to(values)).min(-1)
    return found.indices, found.values


def _ink_colour(picture: Tensor, ground: Tensor) -> Tensor:
    """Mean colour of the pixels at least 80 % as far from the ground as the furthest ones."""
    distance = (picture - ground[:, :, None, None]).square().sum(1).sqrt()
    # The fourth furthest pixel, not the furthest: one outlier must not decide.
    top = distance.flatten(1).topk(4).values[:, -1, None, None]
    weight = (distance >= 0.8 * top).float()[:, None]
    return (weight * picture).sum((2, 3)) / weight.sum((2, 3))


def _ink(picture: Tensor, ground: Tensor, rgb: Tensor) -> Tensor:
    """alpha, (n, side, side)."""
    direction = rgb - ground
    along = torch.einsum("nchw,nc->nhw", picture - ground[:, :, None, None], direction)
    return (along / direction.square().sum(-1)[:, None, None].clamp(min=1e-6)).clamp(0, 1)


def _regions(alpha: Tensor) -> tuple[list[Tensor], Tensor]:
    """Ink of the two largest connected regions, (n, side, side) each, and their number (n,).

    A pixel of partial ink belongs to the region that it touches.
    """
    from scipy import ndimage

    around = np.ones((3, 3))
    side = alpha.shape[-1]
    least = SMALLEST_REGION * (side / UNITS_PER_SIDE) ** 2
    out = torch.zeros(2, *alpha.shape)
    count = torch.zeros(len(alpha), dtype=torch.long)
    for i, picture in enumerate(alpha.numpy()):
        labels, found = ndimage.label(picture > 0.5, around)
        near = ndimage.grey_dilation(labels, footprint=around)
        near = np.where(labels > 0, labels, near)
        inks = [picture * (near == k + 1) for k in range(found)]
        kept = sorted((ink for ink in inks if ink.sum() >= least), key=lambda ink: -ink.sum())
        count[i] = len(kept)
        for k, ink in enumerate(kept[:2]):
            out[k, i] = torch.from_numpy(ink)
    return list(out), count


def _fit(alpha: Tensor) -> _Fit:
    """Every shape at the region's centroid with the region's area; the closest wins."""
    side = alpha.shape[-1]
    x, y = pixel_grid(side)
    ink = alpha.sum((1, 2)).clamp(min=1e-6)
    centre = torch.stack([(alpha * x).sum((1, 2)), (alpha * y).sum((1, 2))], -1) / ink[:, None]
    area = ink * (UNITS_PER_SIDE / side) ** 2
    radius = (area[:, None] / UNIT_AREA).sqrt()
    residual = []
    for k in range(len(SHAPES)):
        shape = torch.full((len(alpha),), k)
        template = covered(shape, centre, radius[:, k], side)
        residual.append((alpha - template).square().sum((1, 2)))
    best = (torch.stack(residual, -1) / alpha.square().sum((1, 2)).clamp(min=1e-6)[:, None]).min(-1)
    chosen = radius.gather(1, best.indices[:, None])[:, 0]
    return _Fit(best.indices, (chosen > MIDDLE_RADIUS).long(), centre, best.values)


def _spot(fit: _Fit) -> Tensor:
    """Left, middle or right: the nearest of the three; -1 if far above or below the middle."""
    x, y = fit.centre.unbind(-1)
    limit = torch.tensor(OFFSET)[fit.size] / 2
    place = 1 + (x > limit).long() - (x < -limit).long()
    return _or_none(place, y.abs() < MAX_HEIGHT)


def _arrangement(first: _Fit, second: _Fit) -> Tensor:
    """Side by side, or -1 on a diagonal or one above the other."""
    across, down = (first.centre - second.centre).abs().unbind(-1)
    return _or_none(torch.full_like(first.shape, SINGLES), across > 2 * down)
