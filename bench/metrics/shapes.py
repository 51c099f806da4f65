"""Metrics of the shapes: what the samples show, measured from pixels and never optimised.

The tilted law's reference is renders of the prompt's class weighted by e^(strength * reward).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.metrics import Metric, Target
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples
from bench.metrics.distance import of_dependent, reference_for, resampled, too_light
from bench.metrics.reward import weighted_mean
from bench.metrics.two_sample import mmd2
from bench.models.shapes_judge import Attributes, measure
from bench.models.shapes_prompts import WORDS, Wish, parse


def measured(target: Target, samples: Samples) -> Attributes:
    """What the samples show, measured once per evaluation."""
    if target.cache.get("measured-samples") is not samples:
        target.cache["measured-samples"] = samples
        target.cache["measured"] = measure(samples.x)
    found: Attributes = target.cache["measured"]
    return found


class _OfPrompts(Metric):
    """Metrics that need a prompt as condition."""

    def judge(self, found: Attributes, wish: Wish, samples: Samples) -> Measurement:
        """The figure, given what the samples show and what was asked for."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        prompt = self.target.sentence
        if not isinstance(prompt, str):
            return Measurement(None, note="the condition is no prompt")
        wish = parse(prompt)
        return self.judge(measured(self.target, samples), wish, samples)


class PromptMatch(_OfPrompts):
    """Share of samples on which every attribute of the prompt is right, measured from pixels."""

    summary = "share of samples that show everything the prompt asks for, measured in pixels"
    rank = 30
    measures = "judge"

    direction = "higher"

    def judge(self, found: Attributes, wish: Wish, samples: Samples) -> Measurement:
        return weighted_mean(found.all_match(wish).float(), samples)


class ClassAgreement(_OfPrompts):
    """Share of samples whose measured shape is the prompt's noun, which the flow was told."""

    summary = "share of samples that show the prompt's noun, which the flow was told"
    rank = 40
    measures = "judge"

    direction = "higher"

    def judge(self, found: Attributes, wish: Wish, samples: Samples) -> Measurement:
        return weighted_mean((found.shape == wish["shape"]).float(), samples)


class FreeEntropy(_OfPrompts):
    """Mean entropy (bits) of the attributes that the prompt leaves open: collapse shows here."""

    summary = "bits of variety left in the attributes that the prompt does not mention"
    rank = 120
    measures = "diversity"

    smallest_n: ClassVar[int] = 50

    def judge(self, found: Attributes, wish: Wish, samples: Samples) -> Measurement:
        # A number of pairs decides the size and restricts the places: two names for one choice.
        free = [name for name in ("colour", "place", "background") if name not in wish]
        if not free:
            return Measurement(None, note="the prompt leaves nothing open")
        weight = weights_of(samples)
        bits = [entropy(getattr(found, name), weight, len(WORDS[name])) for name in free]
        return Measurement(sum(bits) / len(bits), None, len(samples))


def weights_of(samples: Samples) -> Tensor:
    """The samples' weights, summing to 1."""
    if samples.log_weight is None:
        return torch.full((len(samples),), 1 / len(samples))
    return samples.log_weight.softmax(0).float()


def entropy(index: Tensor, weight: Tensor, values: int) -> float:
    """Entropy in bits of the weighted frequencies of an index, -1 being a value of its own."""
    share = torch.zeros(values + 1).index_add(0, index + 1, weight)
    return float(-(share * share.clamp(min=1e-12).log()).sum() / math.log(2))


def thumbnails(x: Tensor) -> Tensor:
    """Pictures as means over 4x4 pixels, flat: kernels between thousands of them stay cheap."""
    return torch.nn.functional.avg_pool2d(x, 4).flatten(1)


class PixelMMD(Metric):
    """Unbiased squared MMD to renders weighted by the tilt, on 8x8 thumbnails, with its error."""

    summary = "unbiased squared MMD, on thumbnails, to renders weighted by the tilt"
    rank = 90
    measures = "distance"
    version = "2"

    direction = "lower"
    smallest_n: ClassVar[int] = 20

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        reference = reference_for(self.target, task, 0)
        if (refusal := too_light(reference, "renders")) is not None:
            return refusal
        assert reference is not None
        x, y = thumbnails(resampled(samples)), thumbnails(reference.x)
        estimate = mmd2(x, y, reference.weight)
        return of_dependent(Measurement(estimate.value, estimate.standard_error, len(x)), samples)
