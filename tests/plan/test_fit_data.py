"""Which data a fit is planned with."""

from bench.plan.expand import expand
from bench.plan.suite import build_suite


def versions(task, reward, method):
    """What decides the first cell of a method, by name."""
    given = {"tasks": [task], "rewards": [reward], "methods": [method], "seeds": 1}
    return expand(build_suite({"name": "x", **given}))[0].cell.versions


def test_fits_on_data_are_other_cells_where_the_data_are_those_of_a_condition():
    """They were once handed data of every class; other fits, and tasks without classes, stay."""
    assert versions("shapes", "prompt", "itm")["data"] == "of the condition"
    assert "data" not in versions("shapes", "prompt", "draft-k")
    assert "data" not in versions("gmm-paper", "linear", "itm")
