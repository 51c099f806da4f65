"""One number, one name: a spelling changes no label, cell or study; two numbers share none."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.params import UserError, format_name, parse_name, respelled, spelled
from bench.core.work import Budget
from bench.plan.budgets import parse_budget, respelled_budget
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from sweeps.planner import Planner
from sweeps.space import read_change
from sweeps.spec import checked, respelled_spec
from sweeps.study import Study
from tests.worlds.small_sweep import small_sweep

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE)
def test_a_name_is_read_back_as_the_same_number(value):
    """Six digits are not enough: a preset's 0.123456789 once came back as 0.123457."""
    assert float(spelled(value)) == value
    assert parse_name(format_name("dps", {"guidance": value})) == ("dps", {"guidance": value})


def test_usual_numbers_keep_their_usual_names():
    shown = {0.01: "0.01", 1e6: "1e+06", 2.0: "2", 0.1 + 0.2: "0.30000000000000004", 100.0: "100"}
    assert {value: spelled(value) for value in shown} == shown


SPELLINGS = {
    "dps:guidance=1e-2": "dps:guidance=0.01",
    "dps:guidance=+1.0E-02,steps=1e1": "dps:guidance=0.01,steps=10",
    "dps:guidance=.5": "dps:guidance=0.5",
    "sum:rewards=linear|inverse,weights=1.0|2e0": "sum:rewards=linear|inverse,weights=1|2",
    "prompt:text=a red cat": "prompt:text=a red cat",
    "clip:model='12'": "clip:model='12'",
    "dps": "dps",
}


@pytest.mark.parametrize(("text", "one"), SPELLINGS.items())
def test_numbers_have_one_spelling(text, one):
    assert respelled(text) == one == respelled(one)
    assert parse_name(one) == parse_name(text)


@given(st.text("0123456789.eE+-'ynoftrue~ ", max_size=8))
def test_a_text_that_looks_like_a_number_stays_a_text(text):
    assert parse_name(format_name("clip", {"model": text}))[1]["model"] == text


def suite(**changes):
    return {
        "name": "t", "tasks": ["gmm:dimension=4"], "rewards": ["linear"],
        "methods": ["dps:guidance=0.01"], "seeds": 1, "n": 8, "budgets": ["paper-nfe=100"],
    } | changes  # fmt: skip


def test_a_spelling_is_no_row_of_its_own():
    """Ids, and the labels that tables are joined on."""
    shown = set()
    for task in ("gmm:dimension=4", "gmm:dimension=4.0", "gmm:dimension=+4"):
        for method in ("dps:guidance=1e-2", "dps:guidance=.010"):
            for budget in ("paper-nfe=1e2", "paper-nfe=100.0"):
                try:
                    made = build_suite(suite(tasks=[task], methods=[method], budgets=[budget]))
                    (row,) = expand(made)
                except UserError as error:  # a float where a whole number is meant
                    assert "dimension must be of type int" in str(error)
                    continue
                shown.add((row.id, row.task_label, row.method_label, str(row.budget)))
    (found,) = shown
    assert found[1:] == ("gmm:dimension=4", "dps:guidance=0.01", "paper-nfe=100")


def test_unlike_budgets_share_no_name():
    near = [Budget("flops", 1234567.0), Budget("flops", 1234568.0)]
    assert len(set(map(str, near))) == 2
    assert [parse_budget(str(budget)) for budget in near] == near
    assert respelled_budget("paper-nfe=1e2:fit=1e6,served=1e4") == (
        "paper-nfe=100:fit=1e+06,served=10000"
    )
    assert respelled_budget("none") == "none"
    with pytest.raises(UserError, match=r"whole number of samples, not 10\.5"):
        parse_budget("paper-nfe=100:fit=1e6,served=10.5")


# -- sweeps ---------------------------------------------------------------------------------------

SPEC = small_sweep("dps:steps=10", "paper-nfe=100", space={"guidance": "0.01..10:log"})
SAME = (
    {"methods": ("dps:steps=+10",)},
    {"task": "gmm-paper:"},
    {"reward": "inverse:strength=1e0"},
    {"budget": "paper-nfe=1e2"},
    {"space": {"guidance": "1e-2..1e1:log"}},
    {"space": {"guidance": {"low": "1e-2", "high": 10, "log": True}}},
    {"space": {"guidance": {"low": 0.01, "high": 10.0, "log": True}}},
)


@pytest.mark.parametrize("changes", SAME)
def test_a_spelling_is_no_study_of_its_own(changes):
    base = replace(SPEC, reward="inverse:strength=1") if "reward" in changes else SPEC
    other = replace(base, **changes)
    assert other.name == base.name and respelled_spec(other) == respelled_spec(base)
    assert replace(SPEC, budget="paper-nfe=101").name != SPEC.name
    assert replace(SPEC, space={"guidance": "0.02..10:log"}).name != SPEC.name


def test_choices_are_numbers_of_their_field():
    """1|2 and 1.0|2.0 of a float field are one study."""
    from bench.runner.pilots import Pilots

    spaces = []
    for text in ("0.5|1|2", "5e-1|1.0|2.0"):
        spec = checked(replace(SPEC, space={"guidance": text}))
        spaces.append(Planner(spec, spec.methods[0], Pilots()).space.describe())
    assert str(spaces[0]) == str(spaces[1]) and Study is not None


BAD = {
    "0.1..inf": "finite", "nan..2": "finite", "a..2": "finite", "0.1..": "finite",
    "yes..2": "finite",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_ends_of_ranges_are_finite_numbers(text):
    with pytest.raises(UserError, match="the range of guidance ends at finite numbers"):
        read_change(text, "guidance")
    low, _, high = text.partition("..")
    with pytest.raises(UserError, match="finite"):
        read_change({"low": low, "high": high or float("inf")}, "guidance")


def test_ranges_of_whole_numbers_are_not_cut():
    """1.5..10.7 of an int field once became 1..10."""
    from bench.runner.pilots import Pilots

    spec = checked(small_sweep("lgd-mc", "paper-nfe=400", space={"draws": "1.5..10.7"}))
    with pytest.raises(UserError, match="draws of lgd-mc is of whole numbers, not"):
        Planner(spec, "lgd-mc", Pilots()).space  # noqa: B018  # computed on access
