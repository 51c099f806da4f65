"""A folder of pictures read once from end to end: which, how, how large, which of them twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from bench.core.params import UserError
from bench.reading.folder import Contents, contents, relative
from bench.reading.picture import SeveralPictures, read_picture

NAMED_FAULTS = 3


@dataclass(frozen=True)
class Seen:
    """What is kept of a picture: not its pixels but their SHA-256, (height, width), the rest."""

    digest: str
    size: tuple[int, int]
    treatments: tuple[str, ...]
    lossy: bool


@dataclass(frozen=True)
class Survey:
    """The pictures of a folder in natural order, with what was seen of each."""

    contents: Contents
    seen: tuple[Seen, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The pictures."""
        return self.contents.pictures

    @property
    def digest(self) -> str:
        """SHA-256 of all pixels, in order: names, files and their compression do not matter.

        It is of pixels as they were read, so a reader that reads otherwise makes another one.
        """
        return hashlib.sha256("".join(one.digest for one in self.seen).encode()).hexdigest()

    def sizes(self) -> Counter[tuple[int, int]]:
        """How many pictures have which (height, width), the commonest first."""
        return Counter(dict(Counter(one.size for one in self.seen).most_common()))

    def duplicates(self) -> list[tuple[str, str]]:
        """(a picture, the first one with the same pixels), for all that are not the first."""
        first: dict[str, str] = {}
        pairs = zip(self.contents.names(), self.seen, strict=True)
        found = [(name, first.setdefault(one.digest, name)) for name, one in pairs]
        return [(name, origin) for name, origin in found if name != origin]

    def treated(self) -> Iterator[tuple[str, str]]:
        """(name, key of TREATMENTS) for everything that reading did."""
        for name, one in zip(self.contents.names(), self.seen, strict=True):
            yield from ((name, key) for key in one.treatments)


def pixel_digest(pixels: Tensor) -> str:
    """SHA-256 of the size and the values of a uint8 picture."""
    own = hashlib.sha256(str(tuple(pixels.shape)).encode())
    own.update(pixels.contiguous().numpy().tobytes())
    return own.hexdigest()


def survey(folder: Path) -> Survey:
    """All pictures below a folder; raises UserError that names those which cannot be read."""
    found, seen, frames, faults = contents(folder), {}, [], []
    for path in found.pictures:
        try:
            seen[path] = _seen(path)
        except SeveralPictures:
            frames.append(path)
        except UserError as error:
            faults.append(str(error))
    if faults:
        more = len(faults) - NAMED_FAULTS
        rest = [f"and {more} more"] if more > 0 else []
        raise UserError("; ".join([*faults[:NAMED_FAULTS], *rest]))
    if not seen:
        raise UserError(
            f"{folder} holds no pictures: {relative(folder, frames[0])} is an animation"
        )
    left_out = dict(found.left_out) | ({"frames": tuple(frames)} if frames else {})
    return Survey(replace(found, pictures=tuple(seen), left_out=left_out), tuple(seen.values()))


def _seen(path: Path) -> Seen:
    read = read_picture(path)
    height, width = read.pixels.shape[:2]
    return Seen(pixel_digest(read.pixels), (height, width), read.treatments, read.lossy)
