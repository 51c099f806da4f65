"""Files of somebody else, mutated or made to do harm: pictures, arrays, prompts, archives."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from typer.testing import CliRunner

from bench.cli import archive as verbs
from bench.cli.main import app
from bench.prompts import read_prompts
from bench.reading.data_set import read_data_set
from bench.record.archive import packed
from tests.faults.mutation import mutated
from tests.worlds.cheap_run import run
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


# -- arrays ---------------------------------------------------------------------------------------


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def _claimed(shape: str) -> bytes:
    """A file of NumPy whose header says another shape than its few bytes hold."""
    whole = _npy(np.zeros((4, 2)))
    return whole.replace(b"(4, 2), }", f"{shape}, }}".encode()[:9].ljust(9))


def _zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def _arrays(rng: random.Random) -> tuple[str, bytes]:
    """The ending and the content of a file of arrays."""
    x = np.random.default_rng(rng.randrange(9)).normal(size=(8, 3))
    label = np.arange(8) % 2
    frame = pd.DataFrame(x, columns=list("abc")).assign(label=label)
    makes: dict[str, Callable[[], bytes]] = {
        ".npy": lambda: _npy(x),
        ".npz": lambda: _zipped({"x.npy": _npy(x), "label.npy": _npy(label)}),
        ".parquet": lambda: frame.to_parquet(),
        ".csv": lambda: frame.to_csv().encode(),
    }
    ending = rng.choice(sorted(makes))
    return ending, makes[ending]()


def _many_rows() -> bytes:
    """A small file of Parquet whose one value stands in fifty million rows."""
    import pyarrow as pa
    from pyarrow import parquet

    out = io.BytesIO()
    with parquet.ParquetWriter(out, pa.schema([("x", pa.float64())])) as writer:
        rows = pa.table({"x": np.zeros(10**6)})
        for _ in range(50):
            writer.write_table(rows)
    return out.getvalue()


ARRAY_BOMBS: tuple[tuple[str, Callable[[], bytes]], ...] = (
    (".npy", lambda: _claimed("(9**9,9)")),
    (".npy", lambda: _npy(np.array([{"a": print}], dtype=object))),
    (".npz", lambda: _zipped({"x.npy": _npy(np.zeros((10**5, 1000), dtype=np.float32))})),
    (".npz", lambda: _zipped({"../../../x.npy": _npy(np.zeros((4, 2)))})),
    (".parquet", _many_rows),
)


def arrays(rng: random.Random, folder: Path) -> Use:
    """A file of numbers, mutated, learnt from."""
    place = emptied(folder / "arrays")
    if rng.random() < 0.02:
        ending, make = rng.choice(ARRAY_BOMBS)
        data = make()
    else:
        ending, data = _arrays(rng)
        data = mutated(data, rng)
    path = place / f"x{ending}"
    path.write_bytes(data)
    said = rng.choice((str(path), f"{path}:x"))
    return lambda: read_data_set(said, rng.choice(("", "label", f"{path}:label")))


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


# -- archives -------------------------------------------------------------------------------------

ELSEWHERE = ("../../escaped", "/tmp/tiltbench-escaped", "x/../../escaped", "..", "a\x1b[2Jb", "")
"""Where no import may write; the second is absolute."""


def _hostile_tar(rng: random.Random, whole: Path) -> bytes:
    """The files of a run, and one member that is none."""
    out = io.BytesIO()
    with tarfile.open(whole) as before, tarfile.open(fileobj=out, mode="w:gz") as after:
        for member in before.getmembers():
            if rng.random() < 0.01:
                member.name = f"{rng.choice(ELSEWHERE)}/{member.name.partition('/')[2]}"
            after.addfile(member, before.extractfile(member))
        extra = tarfile.TarInfo(f"{rng.choice(ELSEWHERE)}/suite.yaml")
        kinds = (
            tarfile.REGTYPE,
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.FIFOTYPE,
            tarfile.CHRTYPE,
        )
        extra.type = rng.choice(kinds)
        extra.linkname = rng.choice(ELSEWHERE)
        if extra.isreg():
            extra.size = 4
        after.addfile(extra, io.BytesIO(b"a: 1") if extra.isreg() else None)
    return out.getvalue()


def _tar_bomb(rng: random.Random, _whole: Path) -> bytes:
    """A gigabyte of zeros in a file, or a file that says that it is larger than any disk."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        for name, size in (("x/suite.yaml", 4), ("x/cells.parquet", rng.choice((10**9, HUGE)))):
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(min(size, 10**9) // 10**7 or 1):
                file.write(bytes(min(size, 10**7)))
            file.write(bytes(-size % 512 if size < 10**9 else 1024))
    return out.getvalue()


def _hostile_zip(rng: random.Random, _whole: Path) -> bytes:
    return _zipped({f"{rng.choice(ELSEWHERE)}/suite.yaml": b"a: 1"})


def _flipped(rng: random.Random, whole: Path) -> bytes:
    return mutated(whole.read_bytes(), rng)


def _flipped_inside(rng: random.Random, whole: Path) -> bytes:
    """Mutated below the compression, whose checksum holds."""
    return gzip.compress(mutated(gzip.decompress(whole.read_bytes()), rng), compresslevel=1)


def _damaged_inside(rng: random.Random, whole: Path) -> bytes:
    """A sound archive of files of which some are mutated."""
    out = io.BytesIO()
    with tarfile.open(whole) as before, tarfile.open(fileobj=out, mode="w:gz") as after:
        for member in before.getmembers():
            source = before.extractfile(member)
            data = source.read() if source is not None else b""
            if rng.random() < 0.15:
                data = mutated(data, rng)
                member.size = len(data)
            after.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _sound(rng: random.Random, whole: Path) -> bytes:
    """The same files in another order."""
    out = io.BytesIO()
    with tarfile.open(whole) as before, tarfile.open(fileobj=out, mode="w:gz") as after:
        members = before.getmembers()
        for member in rng.sample(members, len(members)):
            after.addfile(member, before.extractfile(member))
    return out.getvalue()


ARCHIVES = (_sound, _sound, _flipped, _flipped_inside, _damaged_inside, _hostile_tar, _hostile_zip)


class Archives:
    """An archive of a run, mutated or hostile, imported under its own name or a given one."""

    def __init__(self, folder: Path) -> None:
        self._whole = folder / "whole.tar.gz"
        packed(run(folder / "whole")[0], self._whole)
        # What libraries set up at their first use is no input's doing.
        verbs.import_run(self._whole, None, str(folder / "first"))

    def __call__(self, rng: random.Random, folder: Path) -> Use:
        """The import of one."""
        place = emptied(folder / "archives")
        make = _tar_bomb if rng.random() < 0.005 else rng.choice(ARCHIVES)
        path = place / rng.choice(("run.tar.gz", "run.tar", "run.zip"))
        name = rng.choice((None, None, None, "other", *ELSEWHERE))
        path.write_bytes(make(rng, self._whole))
        return lambda: verbs.import_run(path, name, str(place / "root"))
