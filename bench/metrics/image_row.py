"""The whole metric row of a folder of pictures against a reference folder.

Every row names the encoder, the SHA-256 of its weights and the implementation: FID of torchmetrics,
of clean-fid and ours are different numbers, and stay in different rows.  What cannot be given
honestly is a row without a value and with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bench.core import atomic
from bench.core.params import UserError, nearest
from bench.metrics import feature_diversity as diversity
from bench.metrics import libraries
from bench.metrics.arrays import Array
from bench.metrics.encoders import Encoder
from bench.metrics.frechet import INCEPTION_FLOOR, frechet_distance, moments, too_few
from bench.metrics.image_statistics import STATISTICS
from bench.metrics.intervals import (
    SMALLEST_GROUPS,
    SMALLEST_N,
    Groups,
    Interval,
    Kernel,
    cubic,
    gaussian,
    kernel_interval,
    mean_interval,
)
from bench.metrics.manifold import precision_recall
from bench.models import external, inception
from bench.reading.account import remarks
from bench.reading.picture import read_pictures
from bench.reading.survey import Survey, survey

CMMD_BANDWIDTH, CMMD_FACTOR = 10.0, 1000.0
"""Of the Gaussian kernel on unit CLIP features, and the factor on the result (2401.09603)."""


@dataclass(frozen=True)
class PictureMetric:
    """One number, or why there is none; low and high are the ends of a 90 % interval."""

    metric: str
    encoder: str = ""
    value: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reference_n: int = 0
    direction: str = "none"
    implementation: str = "tiltbench"
    weights: str = ""
    note: str = ""


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


def folder_features(folder: Folder, encoder: Encoder) -> Array:
    """(n, d) features of a folder, computed once per pixels, encoder and weights.

    A reader that is mended gives other pixels, and an encoder that is has another version.
    """
    known = (encoder.name, f"v{encoder.version}", encoder.weights[:12] or "none")
    name = f"{'-'.join((folder.digest[:20], *known))}.npy"
    path = external.cache_folder() / "features" / name
    if path.is_file():
        return np.asarray(np.load(path), dtype=np.float64)
    found = encoder.features(read_pictures(folder.paths))
    with atomic.writing(path) as stream:
        np.save(stream, found)
    return found


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
        made = [
            *_own(x, y, encoder, groups),
            *([] if y is None else _distances(x, y, encoder, groups)),
        ]
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


def mean_row(metric: str, values: Array, groups: Groups | None = None) -> PictureMetric:
    """The mean over pictures (n,) with its interval; pictures of one group are dependent.

    Where all share a prompt, it is an interval over pictures of that prompt.
    """
    row = PictureMetric(metric, value=float(values.mean()), n=len(values))
    if len(values) < 2:
        return row
    alone = groups is None or not groups.any()
    found = mean_interval(values, None if alone else groups)
    return replace(row, **found._asdict(), note=dependence(groups))


def dependence(groups: Groups | None) -> str:
    """What an interval takes to be independent, where it is not the pictures; else ""."""
    count = 0 if groups is None else len(np.unique(groups))
    if groups is None or count == len(groups):
        return ""
    if count == 1:
        return "all pictures have one prompt: the interval is over pictures of it"
    return f"{count} prompts: pictures of one are dependent"


def _own(
    x: Array, y: Array | None, encoder: Encoder, groups: Groups | None
) -> Iterator[PictureMetric]:
    """What needs no reference."""
    yield PictureMetric("vendi", value=diversity.vendi_score(x))
    if len(x) > 1:
        yield PictureMetric("pairwise", value=diversity.pairwise_distance(x))
    if y is not None and len(y) > 1:
        yield PictureMetric("modes", value=float(diversity.mode_count(x, diversity.mode_radius(y))))
    if encoder.name == "inception-legacy":
        yield _inception_score(x, encoder, groups)


def _inception_score(x: Array, encoder: Encoder, groups: Groups | None) -> PictureMetric:
    row = PictureMetric("inception-score", direction="higher", implementation="torchmetrics")
    if len(x) < INCEPTION_FLOOR:
        return replace(row, note=f"it needs {INCEPTION_FLOOR:,} samples, not {len(x):,}")
    net = encoder.encode
    assert isinstance(net, inception.FIDInception)
    with torch.no_grad():
        logits = net.logits(torch.from_numpy(x).float()).double().numpy()
    mean, deviation = libraries.inception_score(logits)
    shared = dependence(groups)
    if shared:  # its splits are random, so that pictures of one prompt stand in several
        return replace(row, value=mean, note=f"no error: {shared}")
    return replace(row, value=mean, standard_error=deviation / 10**0.5)


def _distances(
    x: Array, y: Array, encoder: Encoder, groups: Groups | None = None
) -> Iterator[PictureMetric]:
    """Frechet and kernel distances, precision and recall."""
    yield from _frechet(x, y, encoder)
    yield from _kernel(x, y, encoder, groups)
    if min(len(x), len(y)) > 10:
        precision, recall = precision_recall(x, y)
        yield PictureMetric("precision", value=precision, direction="higher")
        yield PictureMetric("recall", value=recall, direction="higher")


Frechets = dict[str, Callable[[Array, Array], float]]


def _ours(x: Array, y: Array) -> float:
    return frechet_distance(moments(x), moments(y))


def _frechet(x: Array, y: Array, encoder: Encoder) -> Iterator[PictureMetric]:
    """The Frechet distance of every implementation that this encoder's resizing belongs to."""
    name = {"dinov2": "fd-dinov2"}.get(encoder.name, "fid" if encoder.inception else "frechet")
    libraries_of: dict[str, Frechets] = {
        "inception-clean": {"clean-fid": libraries.clean_frechet},
        "inception-legacy": {"torchmetrics": libraries.torchmetrics_frechet},
    }
    found: Frechets = libraries_of.get(encoder.name, {}) | {"tiltbench": _ours}
    refusal = too_few(min(len(x), len(y)), x.shape[1], encoder.inception)
    for implementation, distance in found.items():
        row = PictureMetric(name, direction="lower", implementation=implementation, note=refusal)
        yield row if refusal else replace(row, value=distance(x, y))


def _kernel(x: Array, y: Array, encoder: Encoder, groups: Groups | None) -> Iterator[PictureMetric]:
    """Kernel distances with intervals, and KID as the libraries have it where they do."""
    if encoder.name == "clip":
        scale = gaussian(CMMD_BANDWIDTH), CMMD_FACTOR
        yield _with_interval("cmmd", x, y, *scale, groups)
        return
    name = "kid" if encoder.inception else "kernel-distance"
    yield _with_interval(name, x, y, cubic, 1.0, groups)
    if encoder.inception:
        theirs = (
            ("clean-fid", libraries.clean_kernel)
            if encoder.name == "inception-clean"
            else ("torchmetrics", libraries.torchmetrics_kernel)
        )
        yield PictureMetric(
            name, value=theirs[1](x, y), direction="lower", implementation=theirs[0]
        )


def _with_interval(
    name: str, x: Array, y: Array, kernel: Kernel, factor: float, groups: Groups | None
) -> PictureMetric:
    row = PictureMetric(name, direction="lower")
    if min(len(x), len(y)) < SMALLEST_N:
        return replace(row, note=f"an interval needs {SMALLEST_N} pictures on both sides")
    apart = None if groups is None or not groups.any() else groups
    if apart is not None and len(np.unique(apart)) < SMALLEST_GROUPS:
        return replace(row, note=f"an interval needs pictures of {SMALLEST_GROUPS} prompts")
    found = Interval(*(factor * v for v in kernel_interval(x, y, kernel, groups=apart)))
    note = "; ".join(filter(None, ("90 % interval by halved blocks", dependence(groups))))
    return replace(row, **found._asdict(), note=note)


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
