"""From pictures to what an encoder reads, in differentiable torch.

Every function maps (n, channels, height, width) to the same layout and lets gradients through.
Values are never clipped: a picture outside [0, 1] keeps its gradient, and its score says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.core.params import UserError

Pixels = Literal["signed", "unit"]
"""Range of the pictures that a task makes: [-1, 1] or [0, 1]."""

Fit = Literal["longest", "shortest", "squash"]
"""How a picture becomes a square: padded, cropped, or stretched."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_unit(x: Tensor, pixels: Pixels) -> Tensor:
    """RGB in [0, 1], at least float32; grey pictures are repeated over the channels."""
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise UserError(f"pictures have shape (n, 3, height, width), not {tuple(x.shape)}")
    x = x.to(torch.promote_types(x.dtype, torch.float32)).expand(-1, 3, -1, -1)
    return (x + 1) / 2 if pixels == "signed" else x


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, as torchvision resizes tensors; nothing if it fits already."""
    if x.shape[2:] == (height, width):
        return x
    return nn.functional.interpolate(
        x, (height, width), mode="bicubic", align_corners=False, antialias=True
    )


def pad_longest(x: Tensor, side: int) -> Tensor:
    """The longest side becomes `side`, zeros pad the other on both ends: what HPSv2 reads.

    Zeros are put in before normalisation, so the margin is black.
    """
    height, width = x.shape[2:]
    scale = side / max(height, width)
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (side - h) // 2, (side - w) // 2
    return nn.functional.pad(resize(x, h, w), (left, side - w - left, top, side - h - top))


def crop_shortest(x: Tensor, side: int) -> Tensor:
    """The shortest side becomes `side`, the middle is kept: what CLIP reads."""
    height, width = x.shape[2:]
    if height <= width:
        x = resize(x, side, int(side * width / height))
    else:
        x = resize(x, int(side * height / width), side)
    top, left = round((x.shape[2] - side) / 2), round((x.shape[3] - side) / 2)
    return x[:, :, top : top + side, left : left + side]


def squash(x: Tensor, side: int) -> Tensor:
    """Both sides become `side`, whatever that does to the proportions."""
    return resize(x, side, side)


FITS = {"longest": pad_longest, "shortest": crop_shortest, "squash": squash}


@dataclass(frozen=True)
class Preprocess:
    """Square of `side` pixels by `fit`, then (x - mean) / std per channel."""

    side: int
    fit: Fit = "shortest"
    mean: Sequence[float] = CLIP_MEAN
    std: Sequence[float] = CLIP_STD

    def __call__(self, unit: Tensor) -> Tensor:
        """What the encoder reads, (n, 3, side, side), of RGB in [0, 1]."""
        square = FITS[self.fit](unit, self.side)
        mean, std = (square.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (square - mean) / std
