"""The distance to weighted data: zero for draws of the tilted law, and what it needs."""

from __future__ import annotations

import pytest
import torch

from bench.core.metrics import Target
from bench.core.values import Reference, Samples
from bench.metrics import tilted_data
from bench.metrics.tilted_data import TiltedMMD, fewer, seen
from bench.tasks.velocity import from_velocity
from rewards.function import FunctionReward

N, SHIFT = 2000, 1.0


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def metric(strength: float = SHIFT) -> TiltedMMD:
    return TiltedMMD(Target(FunctionReward(lambda x: x[:, 0]), strength))


@pytest.mark.parametrize("rows", [4_000, 40_000])
def test_draws_of_the_tilted_law_are_at_no_distance_and_others_are(rows):
    """N(0, I) under e^x is N((1, 0), I); of the larger data 4,096 rows are drawn by weight."""
    task = from_velocity(lambda x, t: x, (2,), data=normal(rows, 0))
    shifted = normal(N, 1) + torch.tensor([SHIFT, 0.0])
    found = metric()(Samples(shifted), task)
    assert abs(found.value) < 3 * found.standard_error
    base = metric()(Samples(normal(N, 2)), task)
    assert base.value > 10 * base.standard_error
    effective = float(found.note.split()[1])
    assert found.note.endswith(f"of {rows // 2} rows")
    assert effective == pytest.approx(rows / 2 / torch.e, rel=0.15)  # E[w]^2 / E[w^2] = 1/e


def test_data_that_the_tilt_leaves_no_weight_give_no_distance():
    task = from_velocity(lambda x, t: x, (2,), data=normal(1000, 0))
    found = metric(strength=8.0)(Samples(normal(N, 1)), task)
    assert found.value is None and "effective rows of data under this tilt" in found.note
    bare = metric()(Samples(normal(N, 1)), from_velocity(lambda x, t: x, (2,)))
    assert bare.value is None and "no data of its law" in bare.note


def test_rows_that_are_drawn_keep_the_law_and_its_effective_size(monkeypatch):
    x, weight = torch.arange(100.0)[:, None], torch.tensor([50.0, *[1.0] * 99])
    monkeypatch.setattr(tilted_data, "MOST_ROWS", 50)
    rows, share = fewer(Reference(x, weight / weight.sum()))
    assert share.sum() == pytest.approx(1) and len(rows) < 50
    assert float(share[rows[:, 0] == 0]) == pytest.approx(50 / 149, abs=1 / 50)


def test_large_pictures_are_compared_as_thumbnails():
    assert seen(torch.ones(2, 3, 64, 32)).shape == (2, 3 * 8 * 8)
    assert seen(torch.ones(2, 1, 8, 8)).shape == (2, 64)
