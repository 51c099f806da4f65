"""Folders of pictures: written losslessly, read as uint8, known by the hash of their contents."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.params import UserError

ENDINGS = (".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
LOSSY = (".jpg", ".jpeg")
RECORDS = "metadata.jsonl"


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
    folder.mkdir(parents=True, exist_ok=True)
    image = pillow()
    lines = []
    for k, picture in enumerate(pictures.cpu().numpy()):
        name = f"{k:05d}.png"
        image.fromarray(picture).save(folder / name)
        lines.append(json.dumps({"file_name": name, **(records[k] if records else {})}))
    (folder / RECORDS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def files(folder: Path) -> list[Path]:
    """The picture files below a folder, sorted by path."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not found:
        raise UserError(f"{folder} holds no pictures ({', '.join(ENDINGS)})")
    return found


def read_pictures(paths: Sequence[Path]) -> Iterator[Tensor]:
    """Each picture as uint8 (height, width, 3), RGB."""
    image = pillow()
    for path in paths:
        try:
            with image.open(path) as opened:
                yield torch.from_numpy(np.array(opened.convert("RGB")))
        except OSError as error:
            raise UserError(f"the picture {path} cannot be read ({error})") from error


def prompts(folder: Path, paths: Sequence[Path]) -> list[str] | None:
    """Prompts from metadata.jsonl (keys file_name and prompt or text), in the order of `paths`."""
    records = folder / RECORDS
    if not records.is_file():
        return None
    lines = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines() if line]
    by_name = {str(line.get("file_name")): line.get("prompt", line.get("text")) for line in lines}
    found = [by_name.get(str(path.relative_to(folder))) for path in paths]
    return None if None in found else [str(prompt) for prompt in found]


def contents_digest(paths: Sequence[Path]) -> str:
    """SHA-256 of the contents in the order of the paths; names do not matter."""
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
