"""Distances as torchmetrics and clean-fid compute them, on features that are given.

Their published numbers differ from one another by how pictures are resized before the encoder
(`bench.metrics.encoders`), so every value carries the name of its implementation.
"""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stderr
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.metrics.arrays import Array


class _Given(nn.Module):
    """Stands in for the encoder: features pass through."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _filled(metric: Any, x: Array, y: Array) -> Any:
    metric.update(torch.from_numpy(y), real=True)
    metric.update(torch.from_numpy(x), real=False)
    return metric.compute()


def torchmetrics_frechet(x: Array, y: Array) -> float:
    """FID of torchmetrics between features x and those of the reference y."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    given, shape = _Given(x.shape[1]), (1, x.shape[1])
    with redirect_stderr(io.StringIO()):
        metric = FrechetInceptionDistance(feature=given, input_img_size=shape)
        return float(_filled(metric.set_dtype(torch.float64), x, y))


def torchmetrics_kernel(x: Array, y: Array, subsets: int = 100, size: int = 1000) -> float:
    """KID of torchmetrics: the mean over random subsets, drawn with a fixed seed."""
    from torchmetrics.image.kid import KernelInceptionDistance

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        metric = KernelInceptionDistance(
            feature=_Given(x.shape[1]), subsets=subsets, subset_size=min(size, len(x), len(y))
        )
        return float(_filled(metric.set_dtype(torch.float64), x, y)[0])


def clean_frechet(x: Array, y: Array) -> float:
    """FID of clean-fid between features x and those of the reference y."""
    from cleanfid.fid import frechet_distance

    with warnings.catch_warnings():  # it names an argument that SciPy deprecates
        warnings.simplefilter("ignore")
        arguments = (f(v) for v in (x, y) for f in (_mean, _covariance))
        return float(frechet_distance(*arguments))


def clean_kernel(x: Array, y: Array) -> float:
    """KID of clean-fid: the mean over 100 random subsets, drawn with a fixed seed."""
    from cleanfid.fid import kernel_distance

    state = np.random.get_state()  # noqa: NPY002  # it draws from the global generator
    np.random.seed(0)  # noqa: NPY002
    try:
        return float(kernel_distance(x, y))
    finally:
        np.random.set_state(state)  # noqa: NPY002


def inception_score(logits: Array, splits: int = 10) -> tuple[float, float]:
    """exp of the mean KL of p(class | x) to p(class), mean and deviation over random splits."""
    from torchmetrics.image.inception import InceptionScore

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        metric = InceptionScore(feature=_Given(logits.shape[1]), splits=splits)
        metric.update(torch.from_numpy(logits))
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def _mean(x: Array) -> Array:
    out: Array = x.mean(0)
    return out


def _covariance(x: Array) -> Array:
    out: Array = np.cov(x, rowvar=False)
    return out
