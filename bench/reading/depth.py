"""Channels of 8 bits from whatever depth, palette and transparency a file has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF.  Photometric 0: the largest value is black.  Sample format 2: signed integers."""

PALE_BITS = {"L;2": 2, "L;4": 4}
"""Bits of grey PNG whose key colour Pillow does not scale, by its name of the layout."""


@dataclass(frozen=True)
class Channels:
    """colours: uint8 (height, width, 3); alpha: (height, width), 255 is opaque."""

    colours: Array
    alpha: Array | None = None
    treatment: str = ""


def channels(opened: Any, stored: str) -> Channels:
    """The upright channels of a picture whose file stores its pixels in the layout `stored`.

    Raises ValueError where no scale is plain.
    """
    from PIL import ImageOps

    if _tag(opened, SAMPLE_FORMAT) == 2:
        raise ValueError("it holds signed integers: save it with 8 or 16 bits")
    bits, is_negative = _bits(opened, stored), _tag(opened, PHOTOMETRIC) == 0
    format_ = opened.format
    upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith(("I", "F")):
        return _deep_grey(upright, _top(upright, bits, format_), is_negative)
    if upright.mode in ("1", "L") and isinstance(upright.info.get("transparency"), int):
        grey = np.asarray(upright.convert("L"))
        return Channels(_rgb(grey), _key(grey, round(_transparent(upright) * 255 / (2**bits - 1))))
    return _colours(upright, "upper bits" if ";16" in stored else "")


def layout(opened: Any) -> str:
    """Pillow's name of how the file stores a pixel, e.g. "RGB;16B"."""
    arguments = opened.tile[0][3] if opened.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _tag(opened: Any, number: int) -> int | None:
    found = getattr(opened, "tag_v2", {}).get(number)
    return found[0] if isinstance(found, tuple) else found


def _bits(opened: Any, stored: str) -> int:
    """Bits of a grey value; 12 are stored in 16."""
    deep = 16 if opened.mode.startswith("I") else 8
    return _tag(opened, BITS_PER_SAMPLE) or PALE_BITS.get(stored, deep)


def _top(upright: Any, bits: int, format_: str) -> float:
    """The value that is white (or black)."""
    if upright.mode == "F":
        return 1.0
    if bits > 16 or (upright.mode == "I" and format_ != "PNG"):
        raise ValueError("it holds 32-bit integers, whose scale is not plain: save it with 16 bits")
    return float(2**bits - 1)


def _deep_grey(upright: Any, top: float, is_negative: bool) -> Channels:
    """Round 255 v / top; floating point has to lie in [0, 1]."""
    unit = np.asarray(upright).astype(np.float64) / top
    if not (np.isfinite(unit).all() and unit.min() >= 0 and unit.max() <= 1):
        raise ValueError("it holds values outside [0, 1], whose scale is not plain: save it scaled")
    grey = np.rint(255 * (1 - unit if is_negative else unit)).astype(np.uint8)
    seen = "transparency" in upright.info
    alpha = _key(np.asarray(upright), _transparent(upright)) if seen else None
    return Channels(_rgb(grey), alpha, "scaled")


def _transparent(upright: Any) -> int:
    """The grey value that is transparent (PNG's tRNS)."""
    return int(upright.info["transparency"])


def _key(values: Array, transparent: int) -> Array:
    return np.where(values == transparent, 0, 255).astype(np.uint8)


def _rgb(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=-1)


def _colours(upright: Any, treatment: str) -> Channels:
    """Colours, with alpha where the mode, the palette or a key colour says so."""
    if treatment and upright.mode == "RGB" and "transparency" in upright.info:
        raise ValueError(
            "it has a transparent key colour of 16 bits: save it with an alpha channel"
        )
    if upright.has_transparency_data:
        straight = upright.convert("LA") if upright.mode == "La" else upright
        rgba = np.asarray(straight.convert("RGBA"))
        return Channels(rgba[..., :3], rgba[..., 3], treatment)
    if upright.mode == "CMYK":
        treatment = "CMYK"
    return Channels(np.asarray(upright.convert("RGB")), None, treatment)
