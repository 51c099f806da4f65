"""scikit-learn's 8x8 digits: the split, the folds, and their scaling.

1,437 images train the flow and the map, 360 are held out.  The training images fall into three
disjoint folds: one for the classifier that guides, one for the judge, one for the feature network.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

DIGIT_SHAPE = (1, 8, 8)
Split = Literal["train", "held-out", "all"]
FOLDS = ("guidance", "judge", "features")


class Labelled(NamedTuple):
    """Images (n, 1, 8, 8) in [-1, 1] and their labels (n,)."""

    x: Tensor
    y: Tensor


@cache
def real_digits(split: Split = "all") -> Labelled:
    """The digits of a split, in a fixed order."""
    from sklearn.datasets import load_digits  # takes half a second to import

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.images))
    chosen = {"train": order[360:], "held-out": order[:360], "all": np.arange(len(order))}[split]
    x = torch.tensor(raw.images[chosen], dtype=torch.float32)[:, None] / 8 - 1
    return Labelled(x, torch.tensor(raw.target[chosen]))


def fold(name: str) -> Labelled:
    """One of the three disjoint thirds of the training images."""
    data, k = real_digits("train"), FOLDS.index(name)
    return Labelled(data.x[k::3], data.y[k::3])
