"""Files of somebody else, mutated or made to do harm: pictures, arrays, prompts, archives."""

from __future__ import annotations

import io
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from bench.cli.main import app
from bench.prompts import read_prompts
from bench.reading.data_set import read_data_set
from tests.faults.mutation import mutated
from tests.worlds.picture_files import chunk

Use = Callable[[], object]
"""What a user would do with the files."""

HUGE = 10**12


def emptied(folder: Path) -> Path:
    """A folder with nothing in it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.mkdir(exist_ok=True)
    return folder


# -- pictures -------------------------------------------------------------------------------------


def _saved(rng: random.Random, kind: str) -> bytes:
    pixels = np.random.default_rng(rng.randrange(9)).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=kind)
    return out.getvalue()


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that unpacks to so many pixels of grey."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    rows = zlib.compress(bytes(min((width + 1) * height, 10**7)))
    end = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + end


def _text_bomb() -> bytes:
    """A PNG with a compressed comment of a gigabyte's first part."""
    text = b"Comment\0\0" + zlib.compress(bytes(2 * 10**8))
    whole = _bomb(4, 4)
    return whole[:33] + chunk(b"zTXt", text) + whole[33:]


PICTURE_BOMBS = (
    lambda: _bomb(2**31 - 1, 2**31 - 1),
    lambda: _bomb(60_000, 60_000),
    lambda: _bomb(0, 0),
    lambda: _bomb(13_000, 13_000),
    _text_bomb,
)


def pictures(rng: random.Random, folder: Path) -> Use:
    """A folder of pictures, some mutated, learnt from or evaluated."""
    place = emptied(folder / "pictures")
    for k in range(rng.randint(2, 4)):
        kind = rng.choice(("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"))
        data = _saved(rng, kind)
        if rng.random() < 0.5:
            data = mutated(data, rng)
        elif rng.random() < 0.04:
            data = rng.choice(PICTURE_BOMBS)()
        ending = kind.lower() if rng.random() < 0.8 else rng.choice(("png", "jpg", "tif"))
        (place / f"{k}.{ending}").write_bytes(data)
    if rng.random() < 0.1:
        (place / "metadata.jsonl").write_bytes(mutated(b'{"file_name": "0.png"}\n', rng))
    if rng.random() < 0.5:
        return lambda: read_data_set(str(place), rng.choice(("", "folders")))
    given = ["evaluate", str(place), "--encoders", "", "--json"]
    return lambda: CliRunner().invoke(app, given, catch_exceptions=False)


# -- prompts --------------------------------------------------------------------------------------

PROMPTS = {
    ".txt": b"a red cube\na dog on the moon\n",
    ".jsonl": b'{"prompt": "a red cube", "category": "cubes"}\n{"prompt": "a dog"}\n',
    ".json": b'["a red cube", "a dog on the moon"]',
    ".csv": b'Prompts,Category\n"a red cube","cubes"\na dog,dogs\n',
    ".tsv": b"Prompt\tCategory\na red cube\tcubes\na dog\tdogs\n",
    ".yaml": b"- a red cube\n- a dog\n",
    "": b"a red cube\n",
}
PROMPT_BOMBS = (
    (".json", lambda: b"[" * 200_000),
    (".jsonl", lambda: b'{"prompt": ' + b"9" * 10**6 + b"}"),
    (".jsonl", lambda: json.dumps({f"k{k}": k for k in range(60_000)}).encode()),
    (".csv", lambda: b'Prompts\n"' + b"x" * 10**7),
    (".txt", lambda: b"x" * 3 * 10**7),
)


def prompts(rng: random.Random, folder: Path) -> Use:
    """A file of prompts, mutated, read."""
    place = emptied(folder / "prompts")
    if rng.random() < 0.01:
        ending, make = rng.choice(PROMPT_BOMBS)
        data = make()
    else:
        ending = rng.choice(sorted(PROMPTS))
        data = mutated(PROMPTS[ending], rng)
    path = place / f"prompts{ending}"
    path.write_bytes(data)
    return lambda: read_prompts(path)
