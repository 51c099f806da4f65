"""Moments counted in pieces are those of all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.params import UserError
from bench.metrics.encoders import encoder
from bench.metrics.frechet import frechet_distance, moments
from bench.metrics.running import Running, read_moments, streamed
from bench.reading.folder import contents
from bench.reading.picture import read_pictures
from tests.worlds.picture_files import save

D = 6


def rows(n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 1e4 + random.normal(size=(n, D)) @ random.normal(size=(D, D))


@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3], [500, 1999], list(range(7, 2000, 7))])
def test_blocks_give_what_all_rows_give(cuts):
    """Far from the origin, where sums of squares would lose the covariance."""
    x = rows(2000)
    found, expected = streamed(np.split(x, cuts), D), moments(x)
    assert found.n == 2000
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-14)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-10, atol=1e-10)
    other = moments(rows(2000, 1))
    expected_distance = frechet_distance(expected, other)
    assert frechet_distance(found, other) == pytest.approx(expected_distance, rel=1e-9)


def test_merging_is_in_any_order_and_grouping_up_to_rounding():
    parts = [Running.of(part) for part in np.split(rows(300), [10, 11, 200])]
    a, b, c, d = parts
    one, two = a.merge(b).merge(c).merge(d), d.merge(b.merge(c.merge(a)))
    np.testing.assert_allclose(one.scatter, two.scatter, rtol=1e-9)
    empty = Running.empty(D)
    np.testing.assert_array_equal(empty.merge(a).scatter, a.scatter)
    np.testing.assert_array_equal(a.merge(empty).mean, a.mean)
    assert empty.merge(empty).n == 0


def test_one_row_has_no_covariance():
    with pytest.raises(UserError, match="1 pictures have no covariance"):
        streamed([rows(1)], D)


def test_the_command_writes_the_moments_of_a_folder(tmp_path):
    from typer.testing import CliRunner

    from bench.cli.main import app

    random = np.random.default_rng(2)
    for k in range(70):
        save(tmp_path / "set" / "a" / f"{k}.png", random.integers(0, 256, (9, 12, 3), np.uint8))
    file = tmp_path / "out" / "set.safetensors"
    arguments = ["prepare", "statistics", str(tmp_path / "set"), "--to", str(file)]
    done = CliRunner().invoke(app, [*arguments, "--encoder", "pixels"])
    assert done.exit_code == 0, done.output
    found, named = read_moments(file), contents(tmp_path / "set")
    expected = moments(encoder("pixels").features(read_pictures(named.pictures)))
    assert found.n == 70
    np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-14)
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="bench prepare statistics"):
        read_moments(file)
