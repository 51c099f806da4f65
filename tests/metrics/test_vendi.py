"""The Vendi score of pictures: about the mean of real data, where repetition is seen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.core.values import Samples
from bench.metrics.feature_diversity import Vendi, vendi_score
from bench.tasks.digits import Digits

REAL = Digits(Digits.Params()).data("held-out")


def score(x: torch.Tensor, task: object = None) -> float | None:
    held_out = task or SimpleNamespace(data=lambda split: REAL)
    return Vendi(SimpleNamespace())(Samples(x), held_out).value


def test_sixteen_digits_repeated_are_half_as_many_as_256() -> None:
    many = REAL[torch.randperm(len(REAL), generator=torch.Generator().manual_seed(0))[:256]]
    few = many[:16].repeat(16, 1, 1, 1)
    assert score(many) > 1.8 * score(few) > 15
    flat = many.flatten(1).double().numpy()
    assert vendi_score(flat) < 7 < 18 < score(many), "raw pixels have their mean in common"


def test_near_copies_of_one_picture_are_one() -> None:
    noise = 0.01 * torch.randn(256, *REAL.shape[1:], generator=torch.Generator().manual_seed(0))
    copies = REAL[:1] + noise
    assert score(copies) == pytest.approx(1, abs=0.02)
    flat = copies.flatten(1).double().numpy()
    assert vendi_score(flat - flat.mean(0)) > 40, "about their own mean they would be many"
    assert score(REAL[:1].repeat(8, 1, 1, 1)) == pytest.approx(1)


def test_without_real_data_there_is_no_score() -> None:
    assert score(REAL[:8], SimpleNamespace(data=lambda split: None)) is None
    assert np.isfinite(score(REAL[:8]))
