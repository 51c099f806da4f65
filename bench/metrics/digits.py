"""Metrics of the digits: class frequencies by the judge, distances in a feature network.

The tilted law has no exact samples on real data; its reference is the 1,797 real digits weighted
by e^r.  Below an effective size of 200 no such distance is given.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.core.devices import following
from bench.core.metrics import Metric
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples
from bench.metrics.distance import (
    of_dependent,
    reference_for,
    resampled,
    systematic_rows,
    too_light,
)
from bench.metrics.frechet import moments
from bench.metrics.geometry import Geometry, geometry
from bench.metrics.manifold import DENSITY_NEIGHBOURS, balls
from bench.metrics.two_sample import mmd2
from bench.models import digits
from bench.models.digits_data import real_digits

REFERENCE_DRAWS = 20_000


class ClassError(Metric):
    """L2 distance between the judge's class frequencies and prior x weight, normalised.

    Tilting by sum_i w_i p(y_i | x) gives frequencies proportional to pi_i w_i, with pi the data's
    own, and not w (maths: section 5.2 of the reconstruction).
    """

    summary = "L2 distance of the class frequencies to those of the tilted law"
    rank = 100
    measures = "distance"
    version = "2"

    direction = "lower"
    smallest_n: ClassVar[int] = 50

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        class_weights = getattr(self.target.reward, "class_weights", None)
        if class_weights is None:
            return Measurement(None, note="this reward asks for no classes")
        if self.target.strength != 1:
            return Measurement(None, note="prior x weight is the target at strength 1 only")
        goal = torch.bincount(real_digits("all").y, minlength=10) * class_weights()
        goal = goal / goal.sum()
        labels = digits.log_probabilities("judge", resampled(samples)).argmax(-1)
        frequency = torch.bincount(labels, minlength=10) / len(labels)
        gap = frequency - goal
        error = float(gap.norm())
        # Delta method: the variance of |f - goal| under multinomial sampling of f.
        unit = gap / max(error, 1e-12)
        mean = float(frequency @ unit)
        variance = float(frequency @ unit.square()) - mean**2
        deviation = (max(variance, 0.0) / len(labels)) ** 0.5
        return of_dependent(Measurement(error, deviation, len(labels)), samples)


def digit_features(x: Tensor) -> Tensor:
    """Features (n, 12) of a network that neither guides nor judges."""
    return following(digits.classifier("features"), x).features(x)


class _Features(nn.Module):
    """The feature network in the form that torchmetrics expects."""

    num_features = digits.FEATURES

    def forward(self, x: Tensor) -> Tensor:
        return digit_features(x)


def frechet(x: Tensor, y: Tensor) -> float:
    """Frechet distance of feature Gaussians, by torchmetrics."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    with redirect_stderr(io.StringIO()):
        metric = FrechetInceptionDistance(
            feature=_Features(), input_img_size=(1, 8, 8), normalize=True
        ).set_dtype(torch.float64)
    metric.inception.float()
    for sample, real in ((y, True), (x, False)):
        metric.update(sample, real=real)
    return float(metric.compute())


def geometry_of(reference: Tensor) -> Geometry:
    """How digits lie in the features: of weighted ones, rows as often as they weigh."""
    features = digit_features(reference).double().numpy()
    return geometry(moments(features).covariance, balls(features, DENSITY_NEIGHBOURS))


class _ToWeighted(Metric):
    """Distances to the real digits weighted by e^r."""

    direction = "lower"

    def compare(self, x: Tensor, y: Tensor, weight: Tensor) -> Measurement:
        """The distance between samples and weighted real digits."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        reference = reference_for(self.target, task, 0)
        assert reference is not None and reference.weight is not None
        if (refusal := too_light(reference, "real digits")) is not None:
            return refusal
        found = self.compare(resampled(samples), reference.x, reference.weight)
        about = f"reference: {reference.effective_size:.0f} effective digits"
        note = ", ".join(filter(None, (about, found.note)))
        return of_dependent(replace(found, note=note), samples)


class Frechet(_ToWeighted):
    """Frechet distance to the tilted digits in a 12-feature network (ten samples per feature).

    The note says how the reference lies in the features, on which such a distance depends.
    """

    summary = "Frechet distance to real data weighted by the tilt"
    rank = 70
    measures = "distance"

    implementation = "torchmetrics"
    smallest_n: ClassVar[int] = 10 * digits.FEATURES

    def compare(self, x: Tensor, y: Tensor, weight: Tensor) -> Measurement:
        reference = y[systematic_rows(weight, REFERENCE_DRAWS)]
        return Measurement(frechet(x, reference), None, len(x), str(geometry_of(reference)))


class FeatureMMD(_ToWeighted):
    """Unbiased squared MMD to the tilted digits in feature space, with its standard error."""

    summary = "unbiased squared MMD in feature space to real data weighted by the tilt"
    rank = 80
    measures = "distance"
    version = "2"

    smallest_n: ClassVar[int] = 20

    def compare(self, x: Tensor, y: Tensor, weight: Tensor) -> Measurement:
        estimate = mmd2(digit_features(x), digit_features(y), weight)
        return Measurement(estimate.value, estimate.standard_error, len(x))


class DataMMD(Metric):
    """Unbiased squared MMD to the untilted real digits in feature space: drift from the data."""

    summary = "unbiased squared MMD in feature space to the untilted data: drift, not error"
    rank = 110
    measures = "shift"
    version = "2"

    direction = "none"
    smallest_n: ClassVar[int] = 20

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        estimate = mmd2(digit_features(resampled(samples)), digit_features(real_digits("all").x))
        found = Measurement(estimate.value, estimate.standard_error, len(samples))
        return of_dependent(found, samples)
