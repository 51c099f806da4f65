"""Pictures as files: written losslessly with their records, and their size as JPEG.

They are read by `bench.reading`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.params import UserError

RECORDS = "metadata.jsonl"
"""The records beside pictures: a JSON object a line, with file_name."""


def pillow() -> Any:
    """PIL's Image module, or a UserError that says how to get it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UserError("pictures need pillow: pip install 'tiltbench[images]'") from error
    return Image


JPEG_QUALITY = 95
"""Of the JPEG whose size is measured (DDPO, arXiv 2305.13301)."""


def jpeg_bytes(picture: Tensor) -> int:
    """Size of a uint8 picture (height, width, 3) as a JPEG."""
    buffer = io.BytesIO()
    pixels = picture.cpu().contiguous().numpy()
    pillow().fromarray(pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.tell()


def write_pictures(folder: Path, pictures: Tensor, records: Sequence[dict[str, Any]] = ()) -> None:
    """uint8 pictures (n, height, width, 3) as 00000.png ..., and a line of metadata for each.

    PNG keeps every bit; JPEG would move a Frechet distance by more than methods differ.
    """
    if pictures.dtype != torch.uint8:
        raise ValueError("pictures are written as they are shown: give uint8")
    if records and len(records) != len(pictures):
        raise ValueError(f"{len(records)} records for {len(pictures)} pictures")
    folder.mkdir(parents=True, exist_ok=True)
    image = pillow()
    lines = []
    for k, picture in enumerate(pictures.cpu().numpy()):
        name = f"{k:05d}.png"
        image.fromarray(picture).save(folder / name)
        lines.append(json.dumps({"file_name": name, **(records[k] if records else {})}))
    (folder / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8")
