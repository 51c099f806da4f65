"""The Inception v3 of FID: torchvision's layers with the pooling of the original TensorFlow graph.

Published weights: the state dict of the 2015 graph under torchvision's names, 1,008 classes.
Average pooling leaves the padding out, and the last block pools by the maximum, which torchvision's
own network does not do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.params import UserError
from bench.models import external

FEATURES, CLASSES, SIDE = 2048, 1008, 299
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1")
_BODY = (
    "Conv2d_4a_3x3",
    "maxpool2",
    *(f"Mixed_{n}" for n in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]),
)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


class FIDInception(nn.Module):
    """Pictures (n, 3, 299, 299), values (p - 128) / 128, to features (n, 2048) or logits."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from torchvision.models import Inception3
        except ImportError as error:
            raise UserError(
                "FID needs torchvision: pip install 'tiltbench[images]' (about 1 GB)"
            ) from error
        self.net = Inception3(num_classes=CLASSES, aux_logits=False, init_weights=False)
        for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c"):
            pool = _largest if name == "7c" else _average
            _repool(getattr(self.net, f"Mixed_{name}"), pool)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of the last block."""
        for name in (*_STEM, *_BODY):
            x = getattr(self.net, name)(x)
        return x.mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Class logits without the bias, as the Inception score is computed."""
        weight = cast(nn.Linear, self.net.fc).weight
        return features @ weight.T.to(features)


def _repool(block: Any, pool: Any) -> None:
    """Make a block of torchvision pool with `pool`: its branches are its own, only that differs."""
    kind = type(block).__name__

    def forward(x: Tensor) -> Tensor:
        pooled = block.branch_pool(pool(x))
        parts = {"InceptionA": _branches_a, "InceptionC": _branches_c, "InceptionE": _branches_e}
        return torch.cat([*parts[kind](block, x), pooled], 1)

    block.forward = forward


def _branches_a(b: Any, x: Tensor) -> list[Tensor]:
    wide = b.branch5x5_2(b.branch5x5_1(x))
    twice = b.branch3x3dbl_3(b.branch3x3dbl_2(b.branch3x3dbl_1(x)))
    return [b.branch1x1(x), wide, twice]


def _branches_c(b: Any, x: Tensor) -> list[Tensor]:
    once, twice = x, x
    for k in (1, 2, 3):
        once = getattr(b, f"branch7x7_{k}")(once)
    for k in (1, 2, 3, 4, 5):
        twice = getattr(b, f"branch7x7dbl_{k}")(twice)
    return [b.branch1x1(x), once, twice]


def _branches_e(b: Any, x: Tensor) -> list[Tensor]:
    once = b.branch3x3_1(x)
    twice = b.branch3x3dbl_2(b.branch3x3dbl_1(x))
    split = [b.branch3x3_2a(once), b.branch3x3_2b(once)]
    double = [b.branch3x3dbl_3a(twice), b.branch3x3dbl_3b(twice)]
    return [b.branch1x1(x), torch.cat(split, 1), torch.cat(double, 1)]


@cache
def load_inception(path: Path) -> FIDInception:
    """The frozen network with the weights of a file."""
    net = FIDInception()
    external.load_strictly(net.net, external.read_state(path), path)
    return net.requires_grad_(False).eval()
