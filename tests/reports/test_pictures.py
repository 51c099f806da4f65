"""Pictures of a page: which are shown, and how small they have to be."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reports.figures.gallery import LETTERS, _wrapped, extremes
from reports.figures.pictures import ALLOWED, ENCODINGS, averaged, encoded


def noisy(count: int, side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


def decoded(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_few_pictures_lose_nothing() -> None:
    images = noisy(3, 64)
    uris, encoding = encoded(images)
    assert encoding is ENCODINGS[0] and encoding.said == ""
    assert all((decoded(uri) == image).all() for uri, image in zip(uris, images, strict=True))


def test_a_large_picture_is_averaged_over_blocks() -> None:
    (image,) = noisy(1, 260)
    small = averaged(image, 128)
    assert small.shape == (86, 86, 3)
    assert (small[0, 0] == image[:3, :3].mean((0, 1)).round()).all()


@pytest.mark.parametrize("count", [1000, pytest.param(3000, marks=pytest.mark.slow)])
def test_many_pictures_stay_below_what_a_page_may_hold_and_it_is_said(count: int) -> None:
    """Of noise, the worst there is to encode."""
    images = noisy(20, 128) * (count // 20)
    uris, encoding = encoded(images)
    assert len(uris) == count
    assert sum(map(len, uris)) <= ALLOWED < 20e6
    assert f"{encoding.side} pixels" in encoding.said
    assert encoded(images[:40])[1] != encoding


def test_best_median_and_worst_are_by_reward_and_the_first_of_equals() -> None:
    rewards = [0.0, 3.0, 3.0, -1.0, 2.0, 1.0, 0.5, -2.0, -2.0, 0.1, 0.2]
    rows = pd.DataFrame({"reward": rewards})
    assert extremes(rows, 11) == [("best", 1), ("median", 10), ("worst", 7)]
    assert extremes(rows, 10) == [], "all of them are shown anyway"
    assert extremes(rows, 12) == [], "one has no reward"


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("dps", ["dps"]),
        ("mfm-gf:posterior=exact,draws=16,steps=100",
         ["mfm-gf:posterior=exact,", "draws=16,steps=100"]),
        ("m:" + ",".join(f"a{k}=0.123456" for k in range(9)), 3),
        ("x" * 100, 3),
    ],
)  # fmt: skip
def test_titles_of_neighbours_do_not_run_into_each_other(
    label: str, lines: list[str] | int
) -> None:
    shown = _wrapped(label).split("\n")
    assert max(map(len, shown)) <= LETTERS + 1
    assert len(shown) == lines if isinstance(lines, int) else shown == [x.strip() for x in lines]
