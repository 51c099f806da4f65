"""Encoders of pictures: what distances and diversity are measured in.

An encoder reads uint8 pictures of any size, one after another, resizes them in its own way (which
is part of its name, since it changes the numbers) and gives float64 features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.params import UserError, nearest
from bench.metrics.arrays import Array
from bench.models import external
from bench.models.clip_transforms import beside
from bench.models.preprocess import Preprocess, resize, squash

PICTURES_AT_ONCE = 32
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Encoder:
    """`prepare` makes (3, side, side) of a uint8 picture, `encode` features of a batch of those.

    name, weights and version identify the numbers, and features are kept under them: raise the
    version when `prepare` or `encode` changes.  `inception` says which floor a distance has.
    """

    name: str
    dimension: int
    prepare: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    weights: str = ""
    inception: bool = False
    version: str = "1"

    def features(self, pictures: Iterable[Tensor]) -> Array:
        """(n, dimension) of uint8 pictures (height, width, 3)."""
        return np.concatenate(list(self.blocks(pictures)))

    def blocks(self, pictures: Iterable[Tensor]) -> Iterator[Array]:
        """The same, PICTURES_AT_ONCE rows at a time."""
        batch: list[Tensor] = []
        for picture in pictures:
            batch.append(self.prepare(picture))
            if len(batch) == PICTURES_AT_ONCE:
                yield self._encoded(batch)
                batch = []
        if batch:
            yield self._encoded(batch)

    @torch.no_grad()
    def _encoded(self, batch: list[Tensor]) -> Array:
        out = self.encode(torch.stack(batch)).double().cpu().numpy()
        if not np.isfinite(out).all():
            raise FloatingPointError(f"the encoder '{self.name}' gave features that are not finite")
        return np.asarray(out, dtype=np.float64)


def channels_first(picture: Tensor) -> Tensor:
    """uint8 (height, width, 3) as float (1, 3, height, width) in [0, 1]."""
    return picture.permute(2, 0, 1)[None].float() / 255


# -- resizing for Inception -----------------------------------------------------------------------


def clean_resize(picture: Tensor, side: int) -> Tensor:  # noqa: ARG001  # it is always 299
    """clean-fid's: PIL bicubic with antialiasing on float channels, values 0 to 255."""
    from cleanfid.resize import build_resizer

    return torch.from_numpy(build_resizer("clean")(picture.numpy())).permute(2, 0, 1).float()


def legacy_resize(picture: Tensor, side: int) -> Tensor:
    """TensorFlow 1's bilinear as torch-fidelity and torchmetrics use it: corners, no antialiasing.

    Output pixel i reads the input at i * size / side, without the half-pixel shift.
    """
    x = picture.permute(2, 0, 1).float()
    for axis in (1, 2):
        size = x.shape[axis]
        at = torch.arange(side, dtype=torch.float64) * (size / side)
        low = at.floor().long()
        share = (at - low).float().unsqueeze(-1 if axis == 1 else 0)
        high = (low + 1).clamp(max=size - 1)
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
    return x


RESIZES = {"clean": clean_resize, "legacy": legacy_resize}


def inception(weights: str = "", resizing: str = "clean") -> Encoder:
    """The Inception of FID; `resizing` is clean-fid's or the legacy one of torchmetrics."""
    from bench.models import inception as network

    path = external.locate("inception", weights)
    net = network.load_inception(path)

    def prepare(picture: Tensor) -> Tensor:
        return (RESIZES[resizing](picture, network.SIDE) - 128) / 128

    return Encoder(
        f"inception-{resizing}", network.FEATURES, prepare, net, external.file_digest(path), True
    )


def dinov2(weights: str = "", name: str = "vit_large_patch14_dinov2.lvd142m") -> Encoder:
    """DINOv2 ViT-L/14 of timm at 224 pixels, bicubic: the encoder of FD-DINOv2 (2306.04675)."""
    path = external.locate("dinov2-vit-l-14", weights)
    net = _timm(name, path)
    shape = Preprocess(224, "squash", IMAGENET_MEAN, IMAGENET_STD)
    return Encoder(
        "dinov2", net.num_features, partial(_prepared, shape), net, external.file_digest(path)
    )


def _timm(name: str, path: Path) -> Any:
    try:
        import timm
        from timm.models.vision_transformer import checkpoint_filter_fn
    except ImportError as error:
        raise UserError("DINOv2 needs timm: pip install 'tiltbench[images]'") from error
    net = timm.create_model(name, pretrained=False, num_classes=0, img_size=224)
    # The published positions are for 518 pixels; timm's own filter resamples them, nothing else.
    state = checkpoint_filter_fn(external.read_state(path), net)
    external.load_strictly(net, state, path)
    return net.requires_grad_(False).eval()


def clip(weights: str = "", name: str = "ViT-L-14-336-quickgelu") -> Encoder:
    """CLIP ViT-L/14 at 336 pixels, unit features, pictures stretched: the encoder of CMMD."""
    from bench.models import clip as models

    path = external.locate("clip-vit-l-14-336", weights)
    model = models.load_clip(name, path, fit="squash")
    side = model.preprocess.side

    def prepare(picture: Tensor) -> Tensor:
        return squash(channels_first(picture), side)[0]

    dimension = model.text("").shape[0]
    digest = external.file_digest(path)
    version = "-".join(("2", *(sha[:12] for sha in beside(path).values())))
    return Encoder("clip", dimension, prepare, model.image, digest, version=version)


PIXEL_SIDE = 8


PIXELS = "pixels"


def pixels(weights: str = "") -> Encoder:  # noqa: ARG001  # one signature for all
    """Antialiased 8x8 thumbnails: no weights, no semantics, always there."""
    dimension = 3 * PIXEL_SIDE**2

    def prepare(picture: Tensor) -> Tensor:
        return resize(channels_first(picture), PIXEL_SIDE, PIXEL_SIDE)[0]

    return Encoder(PIXELS, dimension, prepare, lambda x: x.flatten(1))


def _prepared(shape: Preprocess, picture: Tensor) -> Tensor:
    return shape(channels_first(picture))[0]


ENCODERS: dict[str, Callable[..., Encoder]] = {
    "inception-clean": partial(inception, resizing="clean"),
    "inception-legacy": partial(inception, resizing="legacy"),
    "dinov2": dinov2,
    "clip": clip,
    PIXELS: pixels,
}


def encoder(name: str, weights: str = "") -> Encoder:
    """An encoder by name; raises UserError where its weights are missing."""
    if name not in ENCODERS:
        raise UserError(f"no encoder '{name}': {nearest(name, ENCODERS)}")
    return ENCODERS[name](weights)
