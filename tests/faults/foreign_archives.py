"""Archives of runs of somebody else, mutated, hostile, or of records that were never written."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cli import archive as verbs
from bench.record.archive import packed
from bench.record.seals import sealed
from tests.faults.foreign_arrays import zipped
from tests.faults.foreign_files import HUGE, Use, emptied
from tests.faults.mutation import mutated
from tests.worlds.cheap_run import run

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
    return zipped({f"{rng.choice(ELSEWHERE)}/suite.yaml": b"a: 1"})


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


CONTENTS: tuple[Callable[[Any], Any], ...] = (
    lambda found: [],
    lambda found: {**found, "cell": "0" * 16},
    lambda found: {**found, "status": "perfect"},
    lambda found: {**found, "seconds": "long"},
    lambda found: {**found, "files": {"../../x": "0" * 64}},
    lambda found: {**found, "work": {"rows": 1e400}},
    lambda found: {**found, "machine": {"finished": "yesterday"}},
    lambda found: {**found, "reason": "\x1b[2J" * 1000},
    lambda found: {key: found[key] for key in list(found)[::2]},
    lambda found: {**found, "metrics": {}, "costs": None},
    lambda found: {**found, "measured": [5]},
)
"""What becomes of a record."""


def _other_records(rng: random.Random, whole: Path) -> bytes:
    """A sound archive in which records are JSON of another content, half with a right checksum."""
    out = io.BytesIO()
    with tarfile.open(whole) as before, tarfile.open(fileobj=out, mode="w:gz") as after:
        for member in before.getmembers():
            source = before.extractfile(member)
            data = source.read() if source is not None else b""
            if member.name.endswith(".json") and rng.random() < 0.4:
                content = json.loads(data)
                content = rng.choice(CONTENTS)(content) if isinstance(content, dict) else {}
                content.pop("sha256", None) if isinstance(content, dict) else None
                sound = isinstance(content, dict) and rng.random() < 0.5
                data = sealed(content) if sound else json.dumps(content).encode()
                member.size = len(data)
            after.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _odd_members(rng: random.Random, whole: Path) -> bytes:
    """A sound archive with members twice, left out, cut, sparse or of another length than said."""
    out = io.BytesIO()
    with tarfile.open(whole) as before, tarfile.open(fileobj=out, mode="w:gz") as after:
        for member in before.getmembers():
            source = before.extractfile(member)
            data = source.read() if source is not None else b""
            chance = rng.random()
            if chance < 0.1:
                continue
            if chance < 0.2:
                data = data[: rng.randrange(len(data) + 1)]
            member.size = len(data)
            if chance > 0.95:
                member.mode = rng.choice((0, 0o777, 0o4755))
                member.mtime = rng.choice((0, 2**33, -1))
                member.uid = rng.choice((0, 2**20))
            for _ in range(2 if 0.2 < chance < 0.3 else 1):
                after.addfile(member, io.BytesIO(data))
    found = out.getvalue()
    return found[: rng.randrange(len(found))] if rng.random() < 0.1 else found


ARCHIVES = (
    *(_sound, _other_records, _other_records, _odd_members, _odd_members),
    *(_flipped, _flipped_inside, _damaged_inside, _hostile_tar, _hostile_zip),
)


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
