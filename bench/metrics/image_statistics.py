"""What pictures look like, without any network: the drifts by which reward hacking shows.

Each is one number per picture, so every mean has a standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.metrics import RowMetric
from bench.core.tasks import Task
from bench.core.values import Measurement, Samples
from bench.metrics.reward import weighted_mean
from bench.models.picture_folder import jpeg_bytes

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def brightness(picture: Tensor) -> float:
    """Mean luma of a uint8 picture (height, width, 3), in [0, 1]."""
    return float(_luma(picture).mean())


def saturation(picture: Tensor) -> float:
    """Mean of (max - min) / max over the channels, in [0, 1]; black counts 0."""
    x = picture.double() / 255
    most, least = x.amax(-1), x.amin(-1)
    return float(((most - least) / most.clamp(min=1e-12)).mean())


def high_frequency(picture: Tensor) -> float:
    """Share of the luma's power, its mean left out, beyond half the Nyquist frequency."""
    luma = _luma(picture)
    power = torch.fft.fft2(luma - luma.mean()).abs().square()
    frequencies = [torch.fft.fftfreq(size).abs() for size in luma.shape]
    beyond = torch.maximum(frequencies[0][:, None], frequencies[1][None]) > 0.25
    return float(power[beyond].sum() / power.sum().clamp(min=1e-12))


def compressed_size(picture: Tensor) -> float:
    """Bits per pixel as a JPEG of quality 95, beyond those of a plain picture of this size.

    Tables and headers are most of a small file and would hide what its pixels cost.
    """
    height, width = picture.shape[:2]
    return 8 * (jpeg_bytes(picture) - _plain(height, width)) / (height * width)


@cache
def _plain(height: int, width: int) -> int:
    """Bytes of a black picture: what every file of this size holds."""
    return jpeg_bytes(torch.zeros(height, width, 3, dtype=torch.uint8))


def _luma(picture: Tensor) -> Tensor:
    return picture.double() / 255 @ torch.tensor(LUMA, dtype=torch.float64)


STATISTICS: dict[str, Callable[[Tensor], float]] = {
    "brightness": brightness,
    "saturation": saturation,
    "high-frequency": high_frequency,
    "compressed-size": compressed_size,
}


class _Statistic(RowMetric):
    """Mean over the samples of a statistic of the rendered picture."""

    name: ClassVar[str]

    def each(self, x: Tensor, task: Task[Any]) -> Tensor | None:
        pictures, statistic = task.render(x.detach()), STATISTICS[self.name]
        if pictures is None:
            return None
        return torch.tensor([statistic(picture) for picture in pictures], dtype=torch.float64)

    def of(self, values: Tensor | None, samples: Samples, task: Task[Any]) -> Measurement:
        if values is None:
            return Measurement(None, note="the task's samples are no pictures")
        return weighted_mean(values, samples)


class Brightness(_Statistic):
    """Mean luma of the rendered samples, in [0, 1]: drift, neither better nor worse."""

    summary = "mean luma of the pictures, from 0 to 1"
    rank = 180
    measures = "drift"

    name = "brightness"


class Saturation(_Statistic):
    """Mean saturation of the rendered samples, in [0, 1]: drift, neither better nor worse."""

    summary = "mean saturation of the pictures, from 0 to 1"
    rank = 190
    measures = "drift"

    name = "saturation"


class HighFrequency(_Statistic):
    """Share of power beyond half the Nyquist frequency: grids and noise that a scorer likes."""

    summary = "share of the pictures' power in fine detail"
    rank = 200
    measures = "drift"

    name = "high-frequency"


class CompressedSize(_Statistic):
    """Bits per pixel as a JPEG, beyond a plain picture's: detail gained, or washed away."""

    summary = "bits per pixel of the pictures as JPEG, beyond those of a plain picture"
    rank = 210
    measures = "drift"

    name = "compressed-size"
    version = "2"
