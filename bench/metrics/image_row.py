"""The whole metric row of a folder of pictures against a reference folder.

Every row names the encoder, the SHA-256 of its weights and the implementation: FID of torchmetrics,
of clean-fid and ours are different numbers, and stay in different rows.  What cannot be given
honestly is a row without a value and with the reason.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.core import atomic
from bench.core.params import UserError, nearest
from bench.metrics.arrays import Array
from bench.metrics.encoders import Encoder
from bench.metrics.image_distances import distances, own_rows
from bench.metrics.image_statistics import STATISTICS
from bench.metrics.intervals import Groups
from bench.metrics.picture_metric import PictureMetric, mean_row
from bench.models import external
from bench.reading.account import remarks
from bench.reading.picture import read_pictures
from bench.reading.survey import Survey, survey


@dataclass(frozen=True)
class Folder:
    """The pictures of a folder, and what reading them did."""

    survey: Survey

    @staticmethod
    def of(path: Path) -> Folder:
        """The pictures below a path; raises UserError if there are none."""
        return Folder(survey(path))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in natural order."""
        return self.survey.paths

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels as they were read."""
        return self.survey.digest

    @property
    def lossy(self) -> bool:
        """Whether any file is JPEG or another lossy compression."""
        return any(one.lossy for one in self.survey.seen)


DIGEST = 32
"""Bytes of a SHA-256."""

SHARD = 512
"""Pictures whose features are kept together while a folder is read: whole batches of an encoder."""


def folder_features(folder: Folder, encoder: Encoder) -> Array:
    """(n, d) features of a folder, computed once per pixels, encoder and weights.

    A reader that is mended gives other pixels, and an encoder that is has another version.
    The features of every SHARD pictures are kept as soon as they are there: whoever was stopped
    goes on behind them, and gets the same rows.
    """
    known = (encoder.name, f"v{encoder.version}", encoder.weights[:12] or "none")
    name = f"{'-'.join((folder.digest[:20], *known))}.npy"
    path = external.cache_folder() / "features" / name
    if (known_already := _read(path)) is not None:
        return known_already
    starts = range(0, len(folder.paths), SHARD)
    shards = [path.with_suffix(f".{start:08d}-{start + SHARD:08d}.npy") for start in starts]
    found = np.concatenate(
        [
            _kept(shard, lambda k=start: _features(folder, encoder, k))  # type: ignore[misc]
            for shard, start in zip(shards, starts, strict=True)
        ]
    )
    _keep(path, found)
    for shard in shards:
        shard.unlink(missing_ok=True)
    return found


def _features(folder: Folder, encoder: Encoder, start: int) -> Array:
    return encoder.features(read_pictures(folder.paths[start : start + SHARD]))


def _kept(path: Path, make: Callable[[], Array]) -> Array:
    """The array of a file, made and written where there is none that can be believed."""
    if (found := _read(path)) is not None:
        return found
    made = make()
    _keep(path, made)
    return np.asarray(made, dtype=np.float64)


def _keep(path: Path, found: Array) -> None:
    """As NumPy writes it, which reads no further, and the SHA-256 of that behind it."""
    stream = io.BytesIO()
    np.save(stream, found)
    data = stream.getvalue()
    atomic.write(path, data + hashlib.sha256(data).digest())


def _read(path: Path) -> Array | None:
    """The array of a file; None where there is none, or one that is not as it was written."""
    if not path.is_file():
        return None
    whole = path.read_bytes()
    data, digest = whole[:-DIGEST], whole[-DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        return None
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), dtype=np.float64)


def metric_rows(
    folder: Folder,
    reference: Folder | None,
    encoders: dict[str, Encoder | str],
    groups: Groups | None = None,
) -> list[PictureMetric]:
    """All rows; an encoder that is not there is given as the reason why.

    `groups` says which pictures of the folder share a prompt, and are dependent.
    """
    rows = [*account(folder, reference), *statistics(folder, groups)]
    for name, encoder in encoders.items():
        if isinstance(encoder, str):
            rows.append(PictureMetric("(all)", name, n=len(folder.paths), note=encoder))
            continue
        x = folder_features(folder, encoder)
        y = None if reference is None else folder_features(reference, encoder)
        made = [*own_rows(x, y, encoder, groups)]
        made += [] if y is None else distances(x, y, encoder, groups)
        about = {"encoder": encoder.name, "weights": encoder.weights, "n": len(x)}
        sizes = {"reference_n": 0 if y is None else len(y)}
        rows += [replace(row, **about, **sizes) for row in made]  # type: ignore[arg-type]
    if folder.lossy != (reference.lossy if reference else folder.lossy):
        note = "one folder is lossy (JPEG) and the other is not: distances see the compression"
        rows.append(PictureMetric("(warning)", n=len(folder.paths), note=note))
    return rows


def account(folder: Folder, reference: Folder | None) -> Iterator[PictureMetric]:
    """What was done with the files, and which pictures stand on both sides."""
    for side, name in ((folder, ""), (reference, "reference: ")):
        for remark in remarks(side.survey) if side else ():
            yield PictureMetric(f"({remark.about})", n=remark.count, note=name + remark.text)
    own, real = ({one.digest for one in s.survey.seen} if s else set() for s in (folder, reference))
    if own & real:
        note = "pictures of the folder that also stand in the reference, pixel by pixel"
        yield PictureMetric("(warning)", n=len(own & real), note=note)


def statistics(folder: Folder, groups: Groups | None = None) -> Iterator[PictureMetric]:
    """Brightness, saturation, high-frequency share and compressed size, with intervals."""
    # One picture at a time: a folder is larger than the memory.
    found = [[of(p) for of in STATISTICS.values()] for p in read_pictures(folder.paths)]
    for name, column in zip(STATISTICS, zip(*found, strict=True), strict=True):
        yield mean_row(name, np.array(column), groups)


def available(names: Sequence[str], weights: dict[str, str]) -> dict[str, Encoder | str]:
    """Encoders by name, or the reason why one is not there; unknown names raise UserError."""
    from bench.metrics.encoders import ENCODERS, encoder

    for name in (*names, *weights):
        if name not in ENCODERS:
            raise UserError(f"no encoder '{name}': {nearest(name, ENCODERS)}")
    unread = [name for name in weights if name not in names]
    if unread:
        raise UserError(f"weights are given for '{unread[0]}', which --encoders leaves out")
    out: dict[str, Encoder | str] = {}
    for name in names:
        try:
            out[name] = encoder(name, weights.get(name, ""))
        except UserError as error:
            out[name] = str(error)
    return out
