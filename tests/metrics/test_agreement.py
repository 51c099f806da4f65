"""Agreement of judges with people: known counts, exact intervals, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from bench.metrics.agreement import agreement, clopper_pearson


def test_counts_and_standard_error_of_independent_pairs():
    found = agreement([1.0, 2.0, -1.0, 0.5], ["a", "b", "c", "d"])
    assert (found.value, found.pairs, found.prompts, found.undecided) == (0.75, 4, 4, 0)
    # A proportion over n clusters of one: sqrt(p (1 - p) / (n - 1)).
    assert found.standard_error == pytest.approx((0.75 * 0.25 / 3) ** 0.5)


def test_equal_scores_count_half():
    found = agreement([0.0, 1.0, 0.0, -1.0], list("abcd"))
    assert found.value == 0.5 and found.undecided == 2


def test_copies_of_a_pair_tell_nothing_new():
    once = agreement([1.0, -1.0, 1.0, 1.0, -1.0], list("abcde"))
    often = agreement([1.0, -1.0, 1.0, 1.0, -1.0] * 4, list("abcde") * 4)
    assert often.value == once.value
    assert often.standard_error == pytest.approx(once.standard_error)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.3)
    assert often.high - often.low > 0.5


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_where_all_agree_every_prompt_counts_once(sign):
    found = agreement([sign] * 30, list("abc") * 10)
    edge = 0.05 ** (1 / 3)  # below it, 3 of 3 have a probability of less than 5 %
    low, high = (edge, 1.0) if sign > 0 else (0.0, 1 - edge)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_one_prompt_has_no_interval():
    assert agreement([1.0, -1.0], ["a", "a"]).low is None


@pytest.mark.parametrize(("hits", "n"), [(3, 10), (0, 5), (5, 5), (17, 20)])
def test_the_interval_is_scipys_exact_one(hits, n):
    exact = stats.binomtest(hits, n).proportion_ci(0.9, "exact")
    assert clopper_pearson(hits / n, n) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("prompts", "spread"), [(40, 0.0), (40, 0.3), (15, 0.3)])
def test_coverage_of_pairs_that_share_prompts(prompts, spread):
    """2,000 simulations, 6 pairs a prompt, 70 % agreement that varies from prompt to prompt."""
    rng, hits, each, runs, p = np.random.default_rng(3), 0, 6, 2000, 0.7
    names = [str(k) for k in range(prompts) for _ in range(each)]
    for _ in range(runs):
        own = np.full(prompts, p) + (spread * rng.choice([-1, 1], prompts) if spread else 0)
        margins = np.where(rng.random((prompts, each)) < own[:, None], 1.0, -1.0).ravel()
        found = agreement(margins, names)
        hits += found.low <= p <= found.high
    # Exact intervals cover at least 90 %, three standard errors (2 %) allowed below.
    assert 0.88 <= hits / runs <= 0.97, hits / runs
