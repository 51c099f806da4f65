"""Precision, recall, density, coverage, modes and geometry, also where rows stand several times."""

import numpy as np
import pytest
import torch

from bench.core.params import UserError
from bench.metrics import geometry, manifold
from bench.metrics.duplicates import distinct_rows, spread
from bench.metrics.encoders import pixels
from bench.metrics.feature_diversity import mode_count, mode_radius
from bench.metrics.image_distances import distances, own_rows
from bench.metrics.two_sample import median_distance, mmd2

RNG = np.random.default_rng


def copied(x, times, noise=0.0, seed=9):
    """Every row several times, as an encoder gives the same picture in other batches."""
    rows = np.repeat(x, times, 0)
    return rows + noise * RNG(seed).standard_normal(rows.shape)


# -- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_distinct_rows_are_the_first_of_their_copies(noise):
    x = RNG(0).standard_normal((40, 6)) + 100
    found = distinct_rows(copied(x, 3, noise))
    assert found.tolist() == list(range(0, 120, 3))
    assert distinct_rows(x).tolist() == list(range(40))
    assert len(distinct_rows(np.ones((5, 2)))) == 1


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_copies_in_the_reference_change_no_radius(noise):
    """50 copies of one sample are one mode, not 48, whatever stands twice in the reference."""
    y = RNG(1).standard_normal((300, 4)) + 50
    twice = copied(y, 2, noise)
    assert mode_radius(twice) == pytest.approx(mode_radius(y), rel=1e-6) and mode_radius(y) > 0.1
    one = copied(y[:1], 50, noise)
    assert mode_count(one, mode_radius(twice)) == 1
    x = RNG(2).standard_normal((200, 4)) + 50
    assert manifold.precision_recall(x, twice) == manifold.precision_recall(x, y)
    own = manifold.density_coverage(x, manifold.balls(y, 5))
    assert manifold.density_coverage(x, manifold.balls(twice, 5)) == own


def test_a_collapsed_sample_has_radii_of_its_distinct_rows():
    y = RNG(3).standard_normal((400, 2))
    precision, recall = manifold.precision_recall(copied(y[:20], 20), y)
    assert precision == 1.0
    assert recall == manifold.precision_recall(y[:20], y)[1] > 0


def test_radii_are_positive_everywhere():
    """No radius below the floor, whatever k, and one for every distinct row."""
    x = copied(RNG(4).standard_normal((6, 3)), 30, 1e-7)
    for k in (1, 3, 5, 50):
        found = manifold.balls(x, k)
        assert len(found.radii) == 6 and found.copies == 174
        assert float(found.radii.min()) >= 1e-5 * spread(x) > 0


def test_nothing_but_copies_is_refused():
    with pytest.raises(UserError, match="all rows of a sample are the same"):
        mode_radius(np.ones((20, 3)))
    with pytest.raises(UserError, match="no unit"):
        median_distance(torch.ones(20, 3))


def test_a_kernel_has_a_unit_although_most_of_the_reference_is_copies():
    """Most pairs at no distance once made the bandwidth zero, and the distance no number."""
    y = torch.from_numpy(np.concatenate([copied(RNG(5).standard_normal((1, 3)), 90), np.eye(3)]))
    assert median_distance(y) > 0
    found = mmd2(y, y)
    assert np.isfinite(found.value) and np.isfinite(found.standard_error)
    plain = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert median_distance(plain) == pytest.approx(float(torch.pdist(plain.double()).median()))


def test_rows_say_how_many_copies_they_leave_out():
    y = copied(RNG(6).standard_normal((60, 3)), 2)
    x = RNG(7).standard_normal((80, 3))
    rows = {r.metric: r for r in [*own_rows(x, y, pixels(), None), *distances(x, y, pixels())]}
    for name in ("modes", "precision", "density", "coverage", "reference-rank"):
        assert "60 copies in the reference" in rows[name].note, name
    assert "copies" not in rows["recall"].note
    (broken,) = (r for r in distances(x, np.ones((60, 3)), pixels()) if r.metric == "(warning)")
    assert "all rows of a sample are the same" in broken.note


# -- density and coverage -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(60, 60), (90, 40)])
def test_density_and_coverage_of_equal_laws(n, m):
    """Their expectations, which no law changes (Naeem et al., 2020): 300 draws, 4 errors."""
    k, rng, found = 5, RNG(8), []
    for _ in range(300):
        x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
        found.append(manifold.density_coverage(x, manifold.balls(y, k), k))
    missed = np.prod([(m - j) / (n + m - j) for j in range(1, k + 1)])
    for values, expected in zip(np.array(found).T, (1.0, 1 - missed), strict=True):
        assert abs(values.mean() - expected) < 4 * values.std() / 300**0.5


def test_density_sees_crowding_and_coverage_sees_gaps():
    y = RNG(10).random((500, 2))
    real = manifold.balls(y, 5)
    half = manifold.density_coverage(RNG(11).random((500, 2)) * [0.5, 1], real)
    assert 0.9 < half.density < 1.1 and 0.4 < half.coverage < 0.6
    far = manifold.density_coverage(y + 10, real)
    assert far == (0.0, 0.0)
    middle = manifold.density_coverage(np.full((500, 2), 0.5), real)
    assert middle.coverage < 0.05


# -- geometry -------------------------------------------------------------------------------------


def test_effective_rank_counts_directions():
    assert geometry.effective_rank(np.eye(7)) == pytest.approx(7)
    assert geometry.effective_rank(np.diag([3.0, 0, 0])) == pytest.approx(1)
    shares = np.array([0.5, 0.25, 0.25])
    turned = np.linalg.qr(RNG(12).standard_normal((3, 3)))[0]
    expected = np.exp(-(shares * np.log(shares)).sum())
    found = geometry.effective_rank(turned @ np.diag(shares) @ turned.T * 9)
    assert found == pytest.approx(expected)


def test_density_of_a_reference_scales_as_a_log():
    """Half the distances, log 2 more; and the definition, by hand."""
    y = RNG(13).standard_normal((80, 4))
    found = geometry.log_density(manifold.balls(y, 5))
    gaps = np.sort(np.linalg.norm(y[:, None] - y, axis=-1), axis=1)[:, 5]
    assert found == pytest.approx(-np.log(gaps).mean(), rel=1e-10)
    assert geometry.log_density(manifold.balls(y / 2, 5)) == pytest.approx(found + np.log(2))
