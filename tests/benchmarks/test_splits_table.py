"""Which defaults the table of splits marks as behind."""

import math

import pytest

from bench.core.plugins import load
from bench.plan.binding import bind
from benchmarks.splits import AIM, MAXIMISE, WORLDS, default_split, rows_of
from benchmarks.splits_table import Line, written


def line(distance, values, base=0.0, floor=math.nan):
    runs = {row: value if isinstance(value, list) else [value] for row, value in values.items()}
    return Line("w", "m", 100, distance, "m:a=1", runs, base, floor)


def test_a_distance_is_behind_by_a_part_of_the_best():
    found = line(True, {"m:a=1": 0.13, "m:a=2": 0.1, "m:a=3": 0.4})
    assert found.best == "m:a=2" and found.worse == pytest.approx(0.3) and found.behind


def test_what_is_as_near_as_exact_draws_is_said_to_be_so():
    values = {"m:a=1": 0.13, "m:a=2": 0.1}
    above, at = (line(True, values, floor=floor) for floor in (0.12, 0.13))
    assert (above.mark, at.mark) == ("behind", "behind, at the floor") and at.behind
    assert " 1 of those that are behind are as near" in written([above, at], 3)
    assert line(True, {"m:a=1": 0.1, "m:a=2": 0.1}, floor=0.2).mark == ""
    assert "as near" not in written([above], 3)


def test_a_reward_is_behind_by_a_part_of_the_best_gain():
    """-1.2 against -1.0 is a fifth of a gain of one, wherever the reward has its zero."""
    found = line(False, {"m:a=1": -1.2, "m:a=2": -1.0}, base=-2.0)
    assert found.best == "m:a=2" and found.worse == pytest.approx(0.2) and not found.behind


def test_a_default_without_a_result_is_behind():
    found = line(True, {"m:a=1": math.nan, "m:a=2": 0.1})
    assert found.behind and "no result" in written([found], 3)


def test_a_default_that_is_best_is_its_own_best():
    found = line(True, {"m:a=1": 0.1, "m:a=2": math.nan})
    assert found.best == found.default and found.worse == 0


def test_a_row_that_its_own_seeds_flatter_is_not_the_best_on_others():
    """Each of two rows is good by luck on one seed; whoever chooses it finds it bad on another."""
    lucky = {"m:a=1": [2.0, 2.0, 2.0], "m:a=2": [0.5, 3.0, 3.0], "m:a=3": [3.0, 0.5, 3.0]}
    lucky["m:a=4"] = [2.9, 2.9, 0.1]
    found = line(True, lucky)
    assert found.best == "m:a=4" and found.worse == pytest.approx(0.0169, abs=1e-4)
    # spared in turn, the others choose a=4 (2.9), a=4 (2.9) and a=2 (3.0)
    assert found.unseen == pytest.approx(6 / 8.8 - 1)
    assert "| 2 % | -32 % |" in written([found], 3)


def test_a_row_that_is_better_on_every_seed_is_so_on_those_that_did_not_choose():
    found = line(False, {"m:a=1": [1.0, 1.2], "m:a=2": [2.0, 2.2]}, base=0.1)
    assert found.worse == found.unseen == pytest.approx(0.5)
    assert "1 defaults" in written([found], 2) and "choose it, 0." in written([found], 2)


def test_seeds_without_a_result_of_either_compare_nothing():
    lost = {"m:a=1": [math.nan, 1.2, 1.0], "m:a=2": [0.1, 0.9, 0.9]}
    assert line(True, lost).unseen == pytest.approx(2.2 / 1.8 - 1)
    assert math.isnan(line(True, {"m:a=1": [1.0, math.nan], "m:a=2": [1.0, 1.0]}).unseen)


def test_demon_grows_its_steps_faster_than_its_candidates():
    spec, demon = bind("gmm-paper", "linear").spec, load("methods", "demon").create()
    found = [default_split(demon, spec, amount) for amount in (100, 500, 2000)]
    assert [(each["candidates"], each["steps"]) for each in found] == [(3, 15), (5, 50), (8, 120)]


def test_lgd_takes_more_steps_once_it_has_sixteen_draws():
    spec, lgd = bind("gmm-paper", "linear").spec, load("methods", "lgd-mc").create()
    found = [default_split(lgd, spec, amount) for amount in (100, 500, 1000, 2000)]
    splits = [(each["draws"], each["steps"]) for each in found]
    assert splits == [(2, 16), (14, 16), (16, 29), (16, 58)]


def test_every_method_has_its_default_first():
    rows = {name: rows_of(WORLDS["plane-sharp"], name, 500) for name in (*AIM, *MAXIMISE)}
    assert all(len(own) > 1 and len(set(own)) == len(own) for own in rows.values())
    assert rows["sir"][0] == "sir:candidates=250,steps=1"


def test_a_split_may_follow_a_parameter():
    """At 500 evaluations shifted draws leave a step more, and cost 4 evaluations a step."""
    spec = bind("gmm:dimension=2", "linear").spec
    plain, both = (
        default_split(load("methods", "mfm-gf").create(proposal=name), spec, 500)
        for name in ("posterior", "both")
    )
    assert plain == {"draws": 22, "steps": 11} and both == {"draws": 20, "steps": 11}
