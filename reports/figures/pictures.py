"""Pictures inside the page: as they are while they are few, smaller where they are many.

A page is one file that people mail around, so all of its pictures together may take ALLOWED bytes.
The first encoding under which they do is that of every picture of the page, and the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from reports.figures.svg import as_uri

ALLOWED = 12_000_000
"""Bytes of all pictures of a page, which stays below 20 MB with 1,000 of them."""


@dataclass(frozen=True)
class Encoding:
    """At most `side` pixels a side, averaged down; without a `quality` nothing else is lost."""

    side: int
    quality: int | None = None

    def uri(self, image: np.ndarray) -> str:
        """A data URI of uint8 (H, W, 3)."""
        picture = Image.fromarray(averaged(image, self.side))
        if self.quality is None:
            return as_uri(picture, "png")
        return as_uri(picture, "webp", quality=self.quality)

    @property
    def said(self) -> str:
        """What a reader has to know of it; "" where nothing is lost that a screen would show."""
        if self.quality is None:
            return ""
        return (
            f"So that this page stays one small file, its pictures are at most {self.side} pixels "
            f"a side, as WebP of quality {self.quality}; the run’s folder holds them whole."
        )


ENCODINGS = (Encoding(128), Encoding(128, 80), Encoding(96, 60), Encoding(48, 40), Encoding(24, 30))


def averaged(image: np.ndarray, side: int) -> np.ndarray:
    """Blocks of pixels averaged, so that no side is longer than `side`."""
    factor = -(-max(image.shape[:2]) // side)
    height, width = (length // factor for length in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return np.asarray(blocks.mean((1, 3)).round().astype(np.uint8))


def encoded(images: Sequence[np.ndarray]) -> tuple[list[str], Encoding]:
    """Data URIs of all pictures of a page, and the encoding that they share."""
    for encoding in ENCODINGS:
        uris, size = [], 0
        for image in images:
            uris.append(encoding.uri(image))
            size += len(uris[-1])
            if size > ALLOWED and encoding != ENCODINGS[-1]:
                break
        else:
            return uris, encoding
    raise AssertionError("the last encoding takes every picture")
