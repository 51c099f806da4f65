"""Parameters that name an entry of a table."""

from dataclasses import dataclass

import pytest

from bench.core.choices import named_param, summary_of
from bench.core.params import UserError, build, range_of
from sweeps.space import axes_of


@dataclass(frozen=True)
class Entry:
    """An entry with a sentence of its own."""

    summary: str


def halved(x):
    """x / 2."""
    return x / 2


TABLE = {"half": halved, "plain": Entry("x as it is"), "other": Entry("something else")}


@dataclass(frozen=True)
class Params:
    """Three ways to name an entry."""

    rule: str = named_param("half", TABLE, "what is done")
    some: str = named_param("plain", TABLE, only=("half", "plain"))
    tried: str = named_param("plain", TABLE, searched=True)


def test_the_table_says_what_is_allowed_and_in_which_words():
    assert range_of(Params, "rule").choices == ("half", "plain", "other")
    assert range_of(Params, "rule").help == (
        "what is done; half: x / 2; plain: x as it is; other: something else"
    )
    assert range_of(Params, "some").help == "half: x / 2; plain: x as it is"
    assert summary_of(Entry) == "An entry with a sentence of its own"
    with pytest.raises(UserError, match="some must be one of half, plain, not 'other'"):
        build(Params, {"some": "other"}, "it")


def test_a_sweep_tries_names_only_where_it_is_told_to():
    assert [axis.name for axis in axes_of("it", Params(), {}, {})] == ["tried"]
    asked = {"rule": {"choices": ["half", "plain"]}}
    assert {axis.name: axis.choices for axis in axes_of("it", Params(), {}, asked)} == {
        "rule": ("half", "plain"),
        "tried": ("half", "plain", "other"),
    }
