"""One picture file as uint8 RGB, the way a viewer shows it, with what had to be done for that.

Grey of 16 bits and floating point are scaled by their depth, what is transparent is composited on
white, and a picture that its camera marked as lying is turned.  What has no plain reading is a
UserError: 32-bit integers, floating point outside [0, 1], several pictures in one file.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.params import UserError
from bench.models.picture_folder import pillow
from bench.reading.depth import Channels, channels, layout
from bench.reading.webp import is_lossy_webp

FORMATS = ("PNG", "WEBP", "BMP", "TIFF", "JPEG")
"""Pillow's names; no other reader is tried, whatever the ending says."""

ORIENTATION = 0x0112
"""The tag of EXIF and TIFF: 1 is upright, 2 to 8 are the other ways to hold a picture."""

TREATMENTS = {
    "scaled": "16 bits or floating point in one channel, scaled to 8 bits",
    "upper bits": "16 bits a channel, of which the upper 8 are read",
    "composited": "transparent, composited on white",
    "turned": "turned upright as EXIF says; clean-fid does not turn it and would give other values",
    "turned TIFF": "turned upright as TIFF says",
    "CMYK": "CMYK, converted without a colour profile",
    "colour profile": "with a colour profile other than sRGB, which is not applied",
}
"""What reading did beyond copying, in the order in which it is reported."""


class SeveralPictures(UserError):
    """The file is an animation, or has pages."""


@dataclass(frozen=True)
class Picture:
    """pixels: uint8 (height, width, 3), RGB; treatments: keys of TREATMENTS."""

    pixels: Tensor
    treatments: tuple[str, ...] = ()
    lossy: bool = False


def read_picture(path: Path) -> Picture:
    """The picture of a file; raises UserError, in one sentence that names the file."""
    image = pillow()
    try:
        with warnings.catch_warnings():
            # Half the size that is refused, and EXIF that no viewer can read either.
            warnings.simplefilter("ignore")
            with image.open(path, formats=FORMATS) as opened:
                return _read(opened, path)
    except UserError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever the bytes lead them into
        raise UserError(f"the picture {path} cannot be read: {_reason(path, error)}") from error


def read_pictures(paths: Sequence[Path]) -> Iterator[Tensor]:
    """The pixels of each picture, as `read_picture` gives them."""
    return (read_picture(path).pixels for path in paths)


def _reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "it is a folder"
    if path.is_file() and not path.stat().st_size:
        return "it is empty"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is no PNG, WebP, BMP, TIFF or JPEG, or its header is broken"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read(opened: Any, path: Path) -> Picture:
    pages = getattr(opened, "n_frames", 1)
    if pages > 1 and opened.format != "MPO":  # a camera's JPEG with a second view
        raise SeveralPictures(f"the picture {path} holds {pages} frames or pages, not one picture")
    stored = layout(opened)  # before anything loads the picture, EXIF too: it is forgotten then
    lies = opened.getexif().get(ORIENTATION, 1) in range(2, 9)
    lossy = _is_lossy(opened, path)
    read = channels(opened, stored)
    white, pixels = _on_white(read)
    done = dict(_treatments(opened, read, white, lies))
    treatments = tuple(key for key in TREATMENTS if done.get(key))
    return Picture(torch.from_numpy(pixels.copy()), treatments, lossy)


def _treatments(opened: Any, read: Channels, white: bool, lies: bool) -> Iterator[tuple[str, bool]]:
    yield read.treatment, True
    yield "composited", white
    yield "turned TIFF" if opened.format == "TIFF" else "turned", lies
    profile = opened.info.get("icc_profile") or b"sRGB"
    yield "colour profile", not any("sRGB".encode(c) in profile for c in ("ascii", "utf-16-be"))


def _on_white(read: Channels) -> tuple[bool, np.ndarray[Any, np.dtype[np.uint8]]]:
    """(whether anything shows through, c a + 255 (1 - a)), rounded to 8 bits."""
    if read.alpha is None or int(read.alpha.min()) == 255:
        return False, read.colours
    colour, alpha = read.colours.astype(np.uint32), read.alpha[..., None].astype(np.uint32)
    return True, ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _is_lossy(opened: Any, path: Path) -> bool:
    """Whether the file's own compression loses bits, by its content and not by its name."""
    if opened.format == "WEBP":
        return is_lossy_webp(path.read_bytes())
    return opened.format in ("JPEG", "MPO") or opened.info.get("compression") == "jpeg"
