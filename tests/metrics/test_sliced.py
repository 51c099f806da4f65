"""MIND: its value against an independent computation, its interval against known laws."""

import numpy as np
import pytest
import torch
from scipy import stats

from bench.metrics import sliced, two_sample
from bench.metrics.encoders import Encoder
from bench.metrics.image_distances import distances
from bench.metrics.two_sample import directions

RNG = np.random.default_rng


def independent_distance(x, y):
    """Projections one by one; both samples are repeated to the least common multiple of sizes."""
    size, total = np.lcm(len(x), len(y)), 0.0
    unit = directions(x.shape[1]).numpy()
    for v in unit:
        a = np.repeat(np.sort([float(row @ v) for row in x]), size // len(x))
        b = np.repeat(np.sort([float(row @ v) for row in y]), size // len(y))
        total += float(np.mean((a - b) ** 2))
    return (total / len(unit)) ** 0.5


@pytest.mark.parametrize(("n", "m"), [(60, 60), (48, 60), (35, 12), (7, 1)])
def test_the_value_is_that_of_an_independent_computation(n, m):
    rng = RNG(n)
    x, y = rng.standard_normal((n, 24)) * 3, rng.random((m, 24))
    assert sliced.sliced_distance(x, y) == pytest.approx(independent_distance(x, y), rel=1e-6)


def test_it_is_a_distance_of_laws():
    x, y = RNG(0).standard_normal((2, 80, 5))
    assert sliced.sliced_distance(x, x) == 0
    assert sliced.sliced_distance(x, y) == pytest.approx(sliced.sliced_distance(y, x))
    assert sliced.sliced_distance(np.repeat(x, 3, 0), x) == pytest.approx(0, abs=1e-12)
    shift = np.arange(5.0)
    along = directions(5).numpy() @ shift
    moved = sliced.sliced_distance(x + shift, x)
    assert moved == pytest.approx(float(np.sqrt((along**2).mean())))


def to_normal(known):
    """SW^2 of known rows and N(0, 1), whose projections on unit vectors are N(0, 1)."""
    quantiles = stats.norm.ppf((np.arange(len(known)) + 0.5) / len(known))
    along = np.sort(directions(known.shape[1]).numpy() @ known.T, axis=1)
    return float(((along - quantiles) ** 2).mean())


LAWS = {"equal": (0.0, 1.0), "moved": (0.15, 1.0), "wider": (0.0, 1.15), "both": (0.2, 1.1)}


@pytest.mark.parametrize("law", LAWS)
def test_the_interval_of_2000_of_20000_known_samples(law, monkeypatch):
    """90 % nominal, 500 draws of 2,000 of 20,000: 86 to 94 %, 3 errors of a true 90 %."""
    monkeypatch.setattr(two_sample, "PROJECTIONS", 32)
    move, width = LAWS[law]
    rng, hits, values = RNG(1), 0, []
    known = rng.standard_normal((20_000, 4)) * width + move
    truth = to_normal(known)
    for k in range(500):
        x = known[rng.choice(20_000, 2000, replace=False)]
        found = sliced.squared_interval(x, rng.standard_normal((2000, 4)), seed=k)
        hits += found.low <= truth <= found.high
        values.append(found.value)
    assert 430 <= hits <= 470
    # Halves of 100 have 98 % of the variance: differences of width look up to 5 % smaller.
    error = np.std(values) / 500**0.5
    assert -0.05 * truth - 4 * error < np.mean(values) - truth < 4 * error


def test_the_plain_distance_is_positive_where_laws_agree():
    """Why it has no interval: at 400 pictures it is far from the distance of the laws, 0."""
    x, y = RNG(2).standard_normal((2, 400, 6))
    low, high = sliced.squared_interval(x, y)[2:]
    assert low < 0 < high < sliced.sliced_distance(x, y) ** 2 * 2
    assert sliced.sliced_distance(x, y) > 0.04


def test_near_copies_of_prompts_count_once(monkeypatch):
    """Equal laws, 200 prompts of 12 near-copies, 200 draws: 84 to 96 % with groups, not without."""
    monkeypatch.setattr(two_sample, "PROJECTIONS", 32)
    rng, hits = RNG(3), {"prompts": 0, "pictures": 0}
    for k in range(200):
        groups = np.repeat(np.arange(200), 12)
        x = rng.standard_normal((200, 3))[groups] + 0.01 * rng.standard_normal((2400, 3))
        y = rng.standard_normal((2400, 3))
        for name, own in (("prompts", groups), ("pictures", None)):
            found = sliced.squared_interval(x, y, own, seed=k)
            hits[name] += found.low <= 0 <= found.high
    assert 168 <= hits["prompts"] <= 192
    assert hits["pictures"] < 120, hits


def test_rows_where_fid_is_refused():
    encoder = Encoder("inception-clean", 6, lambda x: x, lambda x: x, inception=True)
    x, y = RNG(4).standard_normal((2, 500, 6))
    rows = {(r.metric, r.implementation): r for r in distances(x, y, encoder)}
    assert rows["fid", "tiltbench"].value is None
    plain, squared = rows["mind", "tiltbench"], rows["mind-squared", "tiltbench"]
    assert plain.value == pytest.approx(sliced.sliced_distance(x, y)) and plain.low is None
    assert squared.low < squared.value < squared.high
    few = {r.metric: r for r in distances(x[:199], y, encoder)}
    assert few["mind"].value and "200 pictures" in few["mind-squared"].note
    with pytest.raises(ValueError, match="200"):
        sliced.squared_interval(x[:199], y)
    assert torch.is_tensor(directions(6))
