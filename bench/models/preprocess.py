"""From pictures to what an encoder reads, in differentiable torch.

Every function maps (n, channels, height, width) to the same layout and lets gradients through.
Values are never clipped: a picture outside [0, 1] keeps its gradient, and its score says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from bench.core.params import UserError

Pixels = Literal["signed", "unit"]
"""Range of the pictures that a task makes: [-1, 1] or [0, 1]."""

Fit = Literal["longest", "shortest", "squash"]
"""How a picture becomes a square: padded, cropped, or stretched."""

Interpolation = Literal["bicubic", "bilinear"]
"""Those that have a gradient and antialiasing in torch."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_unit(x: Tensor, pixels: Pixels) -> Tensor:
    """RGB in [0, 1], at least float32; grey pictures are repeated over the channels."""
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise UserError(f"pictures have shape (n, 3, height, width), not {tuple(x.shape)}")
    x = x.to(torch.promote_types(x.dtype, torch.float32)).expand(-1, 3, -1, -1)
    return (x + 1) / 2 if pixels == "signed" else x


def resize(x: Tensor, height: int, width: int, interpolation: Interpolation = "bicubic") -> Tensor:
    """With antialiasing, as torchvision resizes tensors; nothing if it fits already."""
    if x.shape[2:] == (height, width):
        return x
    return nn.functional.interpolate(
        x, (height, width), mode=interpolation, align_corners=False, antialias=True
    )


def scaled(x: Tensor, fit: Fit, side: int, interpolation: Interpolation = "bicubic") -> Tensor:
    """The longest or the shortest side becomes `side`, or both do; the other one follows."""
    height, width = x.shape[2:]
    if fit == "squash":
        return resize(x, side, side, interpolation)
    if fit == "longest":
        h, w = (max(round(size * side / max(height, width)), 1) for size in (height, width))
        return resize(x, h, w, interpolation)
    h, w = (int(side * size / min(height, width)) for size in (height, width))
    return resize(x, h, w, interpolation)


def centred(x: Tensor, side: int, fill: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """The middle square of `side`; what is shorter is padded with a colour on both ends."""
    missing = [max(side - size, 0) for size in x.shape[2:]]
    if any(missing):
        top, left = (m // 2 for m in missing)
        colour = x.new_tensor(fill)[:, None, None]
        margins = (left, missing[1] - left, top, missing[0] - top)
        x = nn.functional.pad(x - colour, margins) + colour
    top, left = (round((size - side) / 2) for size in x.shape[2:])
    return x[:, :, top : top + side, left : left + side]


def pad_longest(x: Tensor, side: int) -> Tensor:
    """The longest side becomes `side`, zeros pad the other on both ends: what HPSv2 reads.

    Zeros are put in before normalisation, so the margin is black.
    """
    return centred(scaled(x, "longest", side), side)


def crop_shortest(x: Tensor, side: int) -> Tensor:
    """The shortest side becomes `side`, the middle is kept: what CLIP reads."""
    return centred(scaled(x, "shortest", side), side)


def squash(x: Tensor, side: int) -> Tensor:
    """Both sides become `side`, whatever that does to the proportions."""
    return resize(x, side, side)


@dataclass(frozen=True)
class Preprocess:
    """Square of `side` pixels by `fit`, then (x - mean) / std per channel.

    Pictures are scaled to side / `crop` before the middle is taken, so that crop = 0.95 leaves out
    a margin; where `fit` pads, it does with the colour `fill` in [0, 1].
    """

    side: int
    fit: Fit = "shortest"
    mean: Sequence[float] = CLIP_MEAN
    std: Sequence[float] = CLIP_STD
    interpolation: Interpolation = "bicubic"
    crop: float = 1.0
    fill: Sequence[float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise UserError(
                f"pictures are resized here by one of {known}, not by '{self.interpolation}'"
            )
        if self.fit not in get_args(Fit):
            raise UserError(f"pictures are fitted by one of {', '.join(get_args(Fit))} here")

    def __call__(self, unit: Tensor) -> Tensor:
        """What the encoder reads, (n, 3, side, side), of RGB in [0, 1]."""
        large = scaled(unit, self.fit, math.floor(self.side / self.crop), self.interpolation)
        square = centred(large, self.side, self.fill)
        mean, std = (square.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (square - mean) / std
