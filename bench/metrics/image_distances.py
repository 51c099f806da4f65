"""Rows of a sample of pictures in the features of one encoder: alone, and against a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from bench.core.params import UserError
from bench.metrics import feature_diversity as diversity
from bench.metrics import geometry, libraries, manifold
from bench.metrics.arrays import Array
from bench.metrics.duplicates import copies_note
from bench.metrics.encoders import PIXELS, Encoder
from bench.metrics.frechet import INCEPTION_FLOOR, frechet_distance, moments, too_few
from bench.metrics.intervals import (
    SMALLEST_GROUPS,
    SMALLEST_N,
    Groups,
    Interval,
    Kernel,
    cubic,
    gaussian,
    kernel_interval,
)
from bench.metrics.picture_metric import PictureMetric, dependence, independent
from bench.metrics.sliced import SLICED_FLOOR, sliced_distance, squared_interval
from bench.models import inception

CMMD_BANDWIDTH, CMMD_FACTOR = 10.0, 1000.0
"""Of the Gaussian kernel on unit CLIP features, and the factor on the result (2401.09603)."""

MANIFOLD_FLOOR = 11
"""Pictures below which neighbourhoods are not looked at."""


# -- alone ----------------------------------------------------------------------------------------


def own_rows(
    x: Array, y: Array | None, encoder: Encoder, groups: Groups | None
) -> Iterator[PictureMetric]:
    """Diversity, of which only `modes` looks at the reference, and the Inception score."""
    yield _vendi(x, y, encoder)
    if len(x) > 1:
        yield PictureMetric("pairwise", value=diversity.pairwise_distance(x))
    if y is not None and len(y) > 1:
        yield _modes(x, y)
    if encoder.name == "inception-legacy":
        yield _inception_score(x, encoder, groups)


def _vendi(x: Array, y: Array | None, encoder: Encoder) -> PictureMetric:
    """Of features as they are; pixels have their mean in common, which is taken off."""
    if encoder.name != PIXELS:
        return PictureMetric("vendi", value=diversity.vendi_score(x))
    if y is None:
        note = "of pixels it needs a reference, whose mean is taken off"
        return PictureMetric("vendi", note=note)
    value = diversity.vendi_score(x - y.mean(0))
    return PictureMetric("vendi", value=value, note="about the mean of the reference")


def _modes(x: Array, y: Array) -> PictureMetric:
    row = PictureMetric("modes")
    try:
        real = manifold.balls(y[: diversity.MOST], 1)
    except UserError as error:
        return replace(row, note=str(error))
    found = diversity.mode_count(x, float(real.radii.median()))
    return replace(row, value=float(found), note=copies_note(real.copies, "reference"))


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


# -- against a reference --------------------------------------------------------------------------


def distances(
    x: Array, y: Array, encoder: Encoder, groups: Groups | None = None
) -> Iterator[PictureMetric]:
    """Frechet, kernel and sliced distances, and what neighbourhoods say."""
    yield from _frechet(x, y, encoder)
    yield from _kernel(x, y, encoder, groups)
    yield from _sliced(x, y, encoder, groups)
    if min(len(x), len(y)) >= MANIFOLD_FLOOR:
        yield from _neighbourhoods(x, y)


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
    refusal = _no_interval(x, y, groups)
    if refusal:
        return replace(row, note=refusal)
    found = kernel_interval(x, y, kernel, groups=independent(groups))
    return _blocked(row, Interval(*(factor * v for v in found)), groups)


def _sliced(x: Array, y: Array, encoder: Encoder, groups: Groups | None) -> Iterator[PictureMetric]:
    """The sliced distance of the samples, and that of their laws, squared, with its interval."""
    name = "mind" if encoder.inception else "sliced-w2"
    row = PictureMetric(name, direction="lower")
    note = f"also of equal laws it is positive: compare at equal sizes, or read {name}-squared"
    yield replace(row, value=sliced_distance(x, y), note=note)
    row = replace(row, metric=f"{name}-squared")
    apart = independent(groups)
    if min(len(x) if apart is None else len(np.unique(apart)), len(y)) < SLICED_FLOOR:
        what = "pictures on both sides" if apart is None else "prompts, and as many real pictures"
        yield replace(row, note=f"an interval needs {SLICED_FLOOR} {what}")
        return
    yield _blocked(row, squared_interval(x, y, apart), groups)


def _no_interval(x: Array, y: Array, groups: Groups | None) -> str:
    """Why blocks cannot be made, or ""."""
    if min(len(x), len(y)) < SMALLEST_N:
        return f"an interval needs {SMALLEST_N} pictures on both sides"
    apart = independent(groups)
    if apart is not None and len(np.unique(apart)) < SMALLEST_GROUPS:
        return f"an interval needs pictures of {SMALLEST_GROUPS} prompts"
    return ""


def _blocked(row: PictureMetric, found: Interval, groups: Groups | None) -> PictureMetric:
    note = "; ".join(filter(None, ("90 % interval by halved blocks", dependence(groups))))
    return replace(row, **found._asdict(), note=note)


def _neighbourhoods(x: Array, y: Array) -> Iterator[PictureMetric]:
    """Precision, recall, density, coverage, and the geometry of the reference."""
    try:
        real, own = (manifold.balls(side, manifold.NEIGHBOURS) for side in (y, x))
        around = manifold.balls(y, manifold.DENSITY_NEIGHBOURS)
    except UserError as error:
        yield PictureMetric("(warning)", note=str(error))
        return
    of_real, of_own = copies_note(real.copies, "reference"), copies_note(own.copies, "folder")
    dense = manifold.density_coverage(x, around)
    shape = geometry.geometry(moments(y).covariance, around)
    higher = (
        ("precision", manifold.share_inside(x, real), of_real),
        ("recall", manifold.share_inside(y, own), of_own),
        ("density", dense.density, of_real),
        ("coverage", dense.coverage, of_real),
    )
    for name, value, note in higher:
        yield PictureMetric(name, value=value, direction="higher", note=note)
    limit = f"of {y.shape[1]} features; at most {len(y) - 1} from {len(y):,} pictures"
    about = ("; ".join(filter(None, (said, of_real))) for said in (limit, geometry.ABOUT))
    for name, value, note in zip(("rank", "density"), shape, about, strict=True):
        yield PictureMetric(f"reference-{name}", value=value, note=note)
