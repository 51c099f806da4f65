"""Distance to the tilted law, and of its reward, where samples of it exist; diversity."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.metrics import FewMetric, Metric, Target
from bench.core.tasks import Task
from bench.core.values import Measurement, Reference, Samples
from bench.metrics.reward import weighted_mean
from bench.metrics.two_sample import MOST_PAIRED, mean_pairwise_distance, mmd2, sliced_w2

SEED_OF_REFERENCE = 1_000_003
"""References use seeds far away from those of runs."""


def reference_for(target: Target, task: Task[Any], n: int) -> Reference | None:
    """The target's reference of size n, made once per evaluation."""
    key = f"reference-{n}"
    if key not in target.cache:
        seed = SEED_OF_REFERENCE + target.seed
        target.cache[key] = task.reference(
            target.reward, target.strength, target.condition, n, seed
        )
    found: Reference | None = target.cache[key]
    return found


SMALLEST_EFFECTIVE_SIZE = 200
"""Effective weighted data below which no distance to them is given."""


def too_light(reference: Reference | None, what: str) -> Measurement | None:
    """Why there is no distance to weighted data, if they are too few under the tilt."""
    size = 0 if reference is None else reference.effective_size
    if size >= SMALLEST_EFFECTIVE_SIZE:
        return None
    return Measurement(
        None,
        note=f"only {size:.0f} effective {what} under this tilt "
        f"(at least {SMALLEST_EFFECTIVE_SIZE} are needed)",
    )


def resampled(samples: Samples, seed: int = 0) -> Tensor:
    """Equally weighted rows: systematic resampling when the samples carry weights."""
    return samples.x if samples.log_weight is None else samples.x[resampled_rows(samples, seed)]


def resampled_rows(samples: Samples, seed: int = 0) -> Tensor:
    """Indices of equally weighted rows (n,): all in order, unless the samples carry weights."""
    if samples.log_weight is None:
        return torch.arange(len(samples), device=samples.x.device)
    return systematic_rows(samples.log_weight.softmax(0), len(samples), seed)


DEPENDENT = "samples are dependent or weighted: no standard error of one run"


def of_dependent(found: Measurement, samples: Samples) -> Measurement:
    """A distance without its standard error where that of independent rows would be too small.

    Rows of one group came out of one population, and resampling repeats rows.
    """
    groups = len(samples) if samples.group is None else len(torch.unique(samples.group))
    free = groups == len(samples) and samples.log_weight is None
    if free or found.standard_error is None:
        return found
    note = "; ".join(filter(None, (found.note, DEPENDENT)))
    return replace(found, standard_error=None, note=note)


def systematic_rows(weight: Tensor, n: int, seed: int = 0) -> Tensor:
    """n indices drawn in proportion to `weight` with one uniform offset."""
    offset = torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = (torch.arange(n, dtype=torch.float64) + offset) / n
    return torch.searchsorted(weight.double().cumsum(0), points).clamp(max=len(weight) - 1)


class _ToExact(Metric):
    """Metrics that need exact samples of the tilted law."""

    direction = "lower"

    def compare(self, x: Tensor, y: Tensor) -> Measurement:
        """The distance between two samples."""
        raise NotImplementedError

    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        reference = reference_for(self.target, task, len(samples))
        if reference is None or not reference.exact:
            return Measurement(None, note="the tilted law has no exact samples here")
        found = self.compare(resampled(samples).flatten(1), reference.x.flatten(1))
        return of_dependent(found, samples)


class SlicedWasserstein(_ToExact):
    """Sliced Wasserstein-2 distance to exact samples of the tilted law, 512 fixed projections.

    The value of a perfect sampler is not zero but the floor that the method `exact` shows at the
    same sample size.
    """

    summary = "sliced Wasserstein-2 distance to exact samples of the tilted law"
    rank = 50
    measures = "distance"
    floor = True

    smallest_n: ClassVar[int] = 100

    def compare(self, x: Tensor, y: Tensor) -> Measurement:
        return Measurement(sliced_w2(x, y), None, len(x))


class MMD(_ToExact):
    """Unbiased squared MMD to exact samples of the tilted law, with its standard error."""

    summary = "unbiased squared MMD to exact samples of the tilted law (zero when the laws agree)"
    rank = 60
    measures = "distance"
    version = "2"

    smallest_n: ClassVar[int] = 20

    def compare(self, x: Tensor, y: Tensor) -> Measurement:
        estimate = mmd2(x, y)
        return Measurement(estimate.value, estimate.standard_error, len(x))


class RewardExcess(Metric):
    """Mean raw reward of the samples less that of the tilted law's reference, in units of the
    reference's own deviation of the reward.

    A distance between samples of size n cannot tell a maximiser from a sampler that is a little
    off; this can: above 0 the method rewards itself beyond what was asked for.
    """

    summary = (
        "mean reward less that of the tilted law itself, in deviations of the law's reward: above "
        "0 a method maximises, below 0 it falls short"
    )
    rank = 15

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        reference = reference_for(self.target, task, len(samples))
        if reference is None:
            return Measurement(None, note="the tilted law has no reference samples here")
        if light := too_light(reference, "reference data"):
            return light
        own, law = self._rewarded(samples), self._rewarded(_as_samples(reference))
        spread = _deviation(law, reference)
        if spread == 0:
            return Measurement(None, note="the reward is constant under the tilted law")
        return Measurement(_difference(own, law) / spread, _error(own, law, spread), own.n)

    def _rewarded(self, samples: Samples) -> Measurement:
        rewards = self.target.reward(samples.x, self.target.condition).double()
        return weighted_mean(rewards, samples)


def _as_samples(reference: Reference) -> Samples:
    weight = reference.weight
    return Samples(reference.x, None if weight is None else weight.double().log())


def _deviation(law: Measurement, reference: Reference) -> float:
    """Of the reward under the law."""
    assert law.per_sample is not None and law.value is not None
    weight = 1 / len(reference.x) if reference.weight is None else reference.weight
    return float((weight * (law.per_sample - law.value).square()).sum().sqrt())


def _difference(own: Measurement, law: Measurement) -> float:
    assert own.value is not None and law.value is not None
    return own.value - law.value


def _error(own: Measurement, law: Measurement, unit: float) -> float | None:
    if own.standard_error is None or law.standard_error is None:
        return None
    return math.hypot(own.standard_error, law.standard_error) / unit


class OfFew(FewMetric):
    """Looks at the first `most` of equally weighted samples."""

    most: ClassVar[int]

    def looks_at(self, samples: Samples) -> Tensor:
        return resampled_rows(samples)[: self.most]


class Diversity(OfFew):
    """Mean pairwise distance of the samples, in the data's own units."""

    summary = "mean pairwise distance of the samples"
    rank = 130
    measures = "diversity"

    direction = "none"
    most = MOST_PAIRED

    def among(self, x: Tensor, n: int, task: Task[Any]) -> Measurement:
        return Measurement(mean_pairwise_distance(x.flatten(1)), None, n)
