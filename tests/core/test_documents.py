"""Numbers are numbers in every spelling, and finite; local sources decide what is cached."""

import sys
import types

import pytest

from bench.core.documents import not_finite, read_yaml
from bench.core.local_source import digest_of
from bench.core.params import UserError, build, parse_name, parse_value
from bench.plan.budgets import parse_budget
from bench.plan.expand import expand
from bench.plan.suite import build_suite, load_suite
from methods.steering.dps import DPSParams
from rewards.combine import PythonCallable

SPELLED = {
    "1e-2": 0.01, "1E-2": 0.01, "+1e-2": 0.01, "1.e-2": 0.01, "1e3": 1000.0, "-2.5e+1": -25.0,
    ".5": 0.5, "0.01": 0.01, "12": 12, "1_000": 1000, "e3": "e3", "1e": "1e", "v2.1": "v2.1",
    "2.1.0": "2.1.0", "true": True, "null": None, "1e-2x": "1e-2x",
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SPELLED.items())
def test_every_spelling_of_a_number_is_that_number(text, value):
    for found in (read_yaml(f"key: {text}")["key"], parse_value(text)):
        assert found == value and type(found) is type(value)


def suite(method, budget="none"):
    return {
        "name": "t", "tasks": ["gmm-paper"], "rewards": ["linear"], "methods": [method],
        "seeds": 1, "n": 8, "budgets": [budget],
    }  # fmt: skip


def test_a_spelling_changes_no_cell(tmp_path):
    ids = set()
    for text in ("1e-2", "0.01", "1.0e-2", ".01"):
        (row,) = expand(build_suite(suite(f"dps:guidance={text},steps=1e1")))
        ids.add(row.id)
        file = tmp_path / "suite.yaml"
        file.write_text(f"name: t\nlimits: {text}\n")
        assert load_suite(str(file))["limits"] == 0.01
    assert len(ids) == 1


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999", "Infinity"])
def test_budgets_have_an_end(text):
    with pytest.raises(UserError, match=r"no end|not a number|positive"):
        parse_budget(f"paper-nfe={text}")


def test_numbers_that_are_not_finite_are_refused():
    for text in (".inf", "-.INF", ".nan", "1e999"):
        with pytest.raises(UserError, match="finite"):
            parse_name(f"dps:guidance={text}")
    with pytest.raises(UserError, match="finite"):
        build(DPSParams, {"guidance": float("inf")}, "dps")
    with pytest.raises(UserError, match="finite"):
        build_suite({**suite("prior"), "n": float("nan")})
    assert not_finite({"a": [1.0, {"b": 2}]}) is None


def test_whole_numbers_may_be_written_as_floats():
    assert build(DPSParams, {"steps": 1e1}, "dps").steps == 10
    with pytest.raises(UserError, match="of type int"):
        build(DPSParams, {"steps": 10.5}, "dps")


# -- code behind a cache --------------------------------------------------------------------------


@pytest.fixture
def scorers(tmp_path, monkeypatch):
    """A package of a scorer, a helper, a helper of that, and a bystander."""
    package = tmp_path / "my_scorers"
    (package / "deep").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "score": "import math\nfrom my_scorers.near import size\ndef f(x, p): return size(x)\n",
        "near": "from .deep import far\ndef size(x): return far.one(x)\n",
        "deep/__init__": "",
        "deep/far": "def one(x): return x.flatten(1).mean(1)\n",
        "other": "print('not imported')\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in [name for name in sys.modules if name.startswith("my_scorers")]:
        del sys.modules[name]


@pytest.mark.parametrize("edited", ["score", "near", "deep/far", "deep/__init__", "__init__"])
def test_an_edited_helper_is_another_cell(scorers, edited):
    before = digest_of("my_scorers.score")
    with (scorers / f"{edited}.py").open("a") as file:
        file.write("# edited\n")
    assert digest_of("my_scorers.score") != before


def test_what_is_not_imported_or_not_local_does_not_count(scorers):
    before = digest_of("my_scorers.score")
    (scorers / "other.py").write_text("x = 1\n")
    assert digest_of("my_scorers.score") == before
    assert digest_of("sys") == digest_of("sys")  # without a source file
    with pytest.raises(ModuleNotFoundError):
        digest_of("my_scorers.missing")


def test_packages_of_a_borrowed_environment_are_neither_read_nor_run(scorers, monkeypatch):
    """Such as one on the path through a .pth file: not among the folders of this interpreter."""
    borrowed = scorers.parent / "other" / "site-packages"
    (borrowed / "lent").mkdir(parents=True)
    (borrowed / "lent" / "__init__.py").write_text("raise RuntimeError('run')\n")
    (borrowed / "lent" / "inner.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(borrowed))
    with (scorers / "near.py").open("a") as file:
        file.write("from lent.inner import x\nimport lent\n")
    before = digest_of("my_scorers.score")
    (borrowed / "lent" / "inner.py").write_text("x = 2\n")
    (borrowed / "lent" / "__init__.py").write_text("y = 1\n")
    assert digest_of("my_scorers.score") == before
    assert not {"lent", "my_scorers"} & set(sys.modules)


@pytest.mark.parametrize("content", [b"x = 1\0", b"print 'two'\n", b"\xff\xfe"])
def test_what_python_cannot_read_counts_with_its_bytes(scorers, content):
    """A template, or a file for another version, that a module names and perhaps never runs."""
    before = digest_of("my_scorers.score")
    (scorers / "deep" / "far.py").write_bytes(content)
    other = digest_of("my_scorers.score")
    assert other != before
    (scorers / "deep" / "far.py").write_bytes(content + b" ")
    assert digest_of("my_scorers.score") not in (before, other)


@pytest.mark.parametrize("content", [b"x = 1\0", b"print 'two'\n"])
def test_a_reward_that_python_cannot_read_is_refused_while_planning(scorers, content):
    (scorers / "score.py").write_bytes(content)
    reward = PythonCallable.create(function="my_scorers.score:f")
    with pytest.raises(UserError, match=r"cannot load 'my_scorers.score:f': .*score.py"):
        reward.weights()


def test_a_module_that_was_made_by_hand_counts_with_the_file_that_it_names(tmp_path, monkeypatch):
    by_hand = types.ModuleType("by_hand")
    monkeypatch.setitem(sys.modules, "by_hand", by_hand)
    bare = digest_of("by_hand")
    by_hand.__file__ = str(tmp_path / "by_hand.py")
    (tmp_path / "by_hand.py").write_text("x = 1\n")
    assert digest_of("by_hand") != bare
