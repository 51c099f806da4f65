"""Intervals, differences and adjusted p values against hand computations."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data.replicates import Row
from reports.data.sign_flip import repetitions_needed, sign_flip, smallest_p
from reports.data.statistics import MeanInterval, difference, holm, mean_of, over_seeds
from reports.figures.curves import _compute_axis, window
from reports.figures.end_labels import spread
from reports.figures.palette import looks
from reports.text.numbers import DASH, decimals, fixed, plus_minus, seconds, short, size

NAN = math.nan


def test_interval_over_three_seeds_by_hand() -> None:
    found = over_seeds({0: 1.0, 1: 2.0, 2: 3.0}, {})
    # s = 1, standard error 1 / sqrt 3, t quantile for two degrees of freedom 4.302653.
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (found.source, found.freedom) == ("seeds", 2)


def test_one_seed_falls_back_to_the_cells_own_error() -> None:
    found = over_seeds({5: 1.0}, {5: 0.1})
    assert found.source == "cell"
    assert found.half == pytest.approx(1.959964 * 0.1, rel=1e-6)


def test_one_seed_without_error_has_no_interval() -> None:
    found = over_seeds({5: 1.0}, {5: NAN})
    assert (found.source, found.known) == ("none", True)
    assert math.isnan(found.half)
    assert plus_minus(found, 2) == "1.00"


def test_no_value_keeps_its_note() -> None:
    found = over_seeds({0: NAN}, {0: 0.1}, "too few samples")
    assert not found.known
    assert found.note == "too few samples"
    assert fixed(found.mean, 2) == DASH


def test_common_noise_cancels_in_a_paired_difference() -> None:
    noise = {0: -5.0, 1: 0.0, 2: 7.0}
    a = over_seeds({s: v + 1.0 + 0.01 * s for s, v in noise.items()}, {})
    b = over_seeds(noise, {})
    gap = difference(a, b)
    # gaps 1.00, 1.01, 1.02: mean 1.01, s = 0.01.
    assert gap.mean == pytest.approx(1.01)
    assert gap.half == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-5)
    assert gap.test == "paired t"
    assert gap.p < 1e-4
    assert a.low < b.high, "the separate intervals overlap"


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
def test_p_and_interval_say_the_same_for_every_k(gaps: list[float]) -> None:
    a = over_seeds(dict(enumerate(gaps)), {})
    b = over_seeds(dict.fromkeys(range(len(gaps)), 0.0), {})
    gap = difference(a, b)
    if math.isfinite(gap.half) and abs(abs(gap.mean) - gap.half) > 1e-9 * gap.half:
        assert (gap.p < 0.05) == (abs(gap.mean) > gap.half)
        assert gap.p > 0


def test_the_exact_test_by_signs_by_hand() -> None:
    # Of the 8 patterns of +-1 +-2 +-3, two have a sum of 6 in absolute value, four at least 4.
    assert sign_flip([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    assert sign_flip([-1.0, 2.0, 3.0]) == pytest.approx(4 / 8)
    assert sign_flip([0.1] * 6) == smallest_p(6) == 2 / 64
    assert repetitions_needed(0.05) == 6
    assert 0 < sign_flip([1.0 + k for k in range(40)]) < 1e-4


def test_single_seeds_are_compared_by_their_own_errors() -> None:
    gap = difference(over_seeds({0: 1.0}, {0: 0.3}), over_seeds({0: 0.0}, {0: 0.4}))
    assert gap.test == "own errors"
    assert gap.half == pytest.approx(1.959964 * 0.5, rel=1e-6)
    assert gap.p == pytest.approx(math.erfc(2 / math.sqrt(2)), rel=1e-6)


def test_gaps_without_any_spread_have_the_error_of_their_cells_and_never_a_p_of_zero() -> None:
    one, other = ({0: 0.75, 1: 0.75}, {0: 0.70, 1: 0.70})
    gap = difference(over_seeds(one, {0: 0.05, 1: 0.05}), over_seeds(other, {0: 0.05, 1: 0.05}))
    assert gap.test == "own errors" and gap.half == pytest.approx(1.959964 * 0.05)
    assert gap.p == pytest.approx(math.erfc(1 / math.sqrt(2)), rel=1e-6)
    unknown = difference(over_seeds(one, {}), over_seeds(other, {}))
    assert unknown.test == "none" and math.isnan(unknown.p) and math.isnan(unknown.half)
    same = difference(over_seeds(one, {}), over_seeds(one, {}))
    assert (same.mean, same.half, same.p) == (0, 0, 1)
    far = difference(over_seeds({0: 1e9}, {0: 1e-9}), over_seeds({0: 0.0}, {0: 1e-9}))
    assert 0 < far.p < 1e-9


def test_a_condition_that_failed_is_left_out_on_both_sides() -> None:
    """Conditions at 0 and 10; the second method has lost seed 1 of the hard one."""
    hard = {"0": 0.0, "1": 10.0}
    a = [Row(c, s, level + 0.5 + 0.01 * s) for c, level in hard.items() for s in range(3)]
    b = [Row(c, s, level) for c, level in hard.items() for s in range(3) if (c, s) != ("1", 1)]
    gap = difference(mean_of(a), mean_of(b))
    assert gap.mean == pytest.approx(0.51, abs=0.003)
    assert mean_of(b).mean == pytest.approx(5.0), "conditions count alike, whatever failed"
    assert mean_of(a).mean == pytest.approx(5.51)


def test_an_infinite_value_is_counted_as_what_it_is() -> None:
    found = over_seeds({0: 1.0, 1: math.inf, 2: 2.0}, {})
    assert found.mean == math.inf and not found.known and math.isnan(found.half)


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, then monotone from the left.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_unknown_p_values_out() -> None:
    adjusted = holm([0.01, NAN, 0.5])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusting_never_lowers_a_p_value_nor_changes_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(q >= x - 1e-15 for q, x in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= -1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_keep_their_order_and_distance(heights: list[float]) -> None:
    placed = np.array(spread(heights, gap=0.05))
    order = np.argsort(heights, kind="stable")
    assert np.all(np.diff(placed[order]) >= 0.05 - 1e-9)
    assert placed.min() >= -1e-9
    assert placed.max() <= 1 + 1e-9


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([0.9, 0.1, 0.5]) == pytest.approx([0.9, 0.1, 0.5])


def test_one_far_point_does_not_press_the_others_into_a_line() -> None:
    near = [MeanInterval(v, 0.0) for v in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert window(near) == (0.0, 0.8)
    assert window([*near, MeanInterval(-9.0, 0.0)])[0] > -2.0
    assert window([*near, MeanInterval(-1.0, 0.0)])[0] == -1.0


def test_numbers_are_short_and_aligned() -> None:
    column = [
        MeanInterval(1.23456, 0.0123, source="seeds"),
        MeanInterval(-12.3, 0.02, source="seeds"),
    ]
    assert decimals(column) == 3
    assert fixed(-12.3, 3) == "−12.300"
    assert fixed(-0.0001, 2) == "0.00"
    assert short(1250.0) == "1,250"
    assert short(0.01234) == "0.0123"
    assert size(3 * 2**20) == "3\u2009MiB"
    assert seconds(0.25) == "250\u2009ms"
    assert seconds(NAN) == DASH


def test_methods_keep_their_colour_and_never_share_one() -> None:
    blue, grey = "#0072b2", "#8a8a8a"
    few = looks({"mfm-g": blue, "dps": "#d55e00"})
    many = looks({"prior": grey, "mfm-g:draws=1": blue, "mfm-g:draws=4": blue, "x": "", "y": "red"})
    assert few["mfm-g"].colour == many["mfm-g:draws=1"].colour == blue
    assert len({look.colour for look in many.values()}) == 5


def test_rows_of_one_cost_have_an_axis_around_it() -> None:
    """Without a budget there is no other tick, and a logarithmic axis of one value has no width."""
    cells = pd.DataFrame({"budget_amount": [NAN], "budget_unit": [""]})
    entry = SimpleNamespace(cells=cells, cost=lambda unit: 20.0)
    figure, axis = plt.subplots()
    _compute_axis(axis, [entry, entry], "paper-nfe")  # type: ignore[list-item]
    axis.errorbar([20.0], [1.0], yerr=[0.1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = axis.get_xlim()
    plt.close(figure)
    assert low < 20 < high < 30
