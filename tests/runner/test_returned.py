"""What plugins return is checked where it comes in: one sentence in the cell, never a traceback."""

import numpy as np
import pytest
import torch

from bench.api import Samples
from tests.worlds import odd_plugins
from tests.worlds.cheap_run import run, tables

WORLD = {"methods": ["odd:name=odd"], "rewards": ["odd"], "seeds": 1, "n": 64}


def weighted(value):
    return lambda problem, n: Samples(problem.x0(), log_weight=value(n))


def informed(value):
    return lambda problem, n: Samples(problem.x0(), info={"ess": value})


def of_type(dtype):
    return lambda problem, n: Samples(problem.x0().to(dtype))


def logged(value):
    def sample(problem, n):
        problem.log(0, loss=value)
        return odd_plugins.plain(problem, n)

    return sample


def raising(error):
    def sample(problem, n):
        raise error

    return sample


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


BAD = {
    "weights (n, 1)": (weighted(lambda n: torch.zeros(n, 1)), "log_weight of shape (64, 1)"),
    "three weights": (weighted(lambda n: torch.zeros(3)), "log_weight of shape (3,)"),
    "NaN weights": (weighted(lambda n: torch.full((n,), torch.nan)), "no logarithms of weights"),
    "no weight": (weighted(lambda n: torch.full((n,), -torch.inf)), "no logarithms of weights"),
    "weights of NumPy": (weighted(np.zeros), "log_weight as a value of type ndarray"),
    "complex": (of_type(torch.complex64), "samples of type complex64, not float32"),
    "bfloat16": (of_type(torch.bfloat16), "samples of type bfloat16"),
    "half": (of_type(torch.float16), "samples of type float16"),
    "double": (of_type(torch.float64), "samples of type float64"),
    "integer": (of_type(torch.int64), "samples of type int64"),
    "a tensor": (lambda problem, n: problem.x0(), "a float32 tensor of shape (64, 2), not Samples"),
    "nothing": (lambda problem, n: None, "a value of type NoneType, not Samples"),
    "too few": (lambda problem, n: Samples(problem.x0()[:3]), "of shape (3, 2), asked for 64"),
    "groups": (
        lambda problem, n: Samples(problem.x0(), group=torch.zeros(n)),
        "group of type float32",
    ),
    "info of text": (informed("much"), "info 'ess' as a value of type str"),
    "info of many": (informed(torch.zeros(2)), "info 'ess' as a float32 tensor of shape (2,)"),
    "a complex log": (logged(1j), "logged 'loss' as a value of type complex"),
    "an exit": (raising(SystemExit(3)), "SystemExit: 3"),
    "a mute error": (raising(Mute()), "Mute: (its message cannot be read)"),
    "a surrogate": (raising(ValueError("\udcff")), "ValueError: \\udcff"),
    "a long error": (raising(ValueError("long" * 10_000)), "longlong ..."),
}
GOOD = {
    "NumPy": (informed(np.float32(2.5)), 2.5),
    "a tensor": (informed(torch.tensor([2.5])), 2.5),
    "whole": (informed(np.int64(2)), 2.0),
    "infinite": (informed(float("inf")), float("inf")),
}


@pytest.fixture
def odd(monkeypatch):
    odd_plugins.install(monkeypatch)
    return lambda makes: monkeypatch.setitem(odd_plugins.MAKES, "odd", makes)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_return_fails_its_cell_with_one_sentence(odd, tmp_path, name):
    makes, says = BAD[name]
    odd(makes)
    store, outcome = run(tmp_path, **WORLD)
    (reason,) = tables(store)["cells"].reason
    assert outcome.statuses == {"failed": 1}
    assert says in reason and "\n" not in reason and len(reason) < 2100


@pytest.mark.parametrize("name", GOOD)
def test_any_kind_of_number_is_a_number(odd, tmp_path, name):
    makes, value = GOOD[name]
    odd(makes)
    store, outcome = run(tmp_path, **WORLD)
    assert outcome.statuses == {"ok": 1}
    assert store.index.last(outcome.plan[0].id).attempt.info == {"ess": value}


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5, requires_grad=True), 1])
def test_any_kind_of_number_may_be_logged(odd, tmp_path, value):
    odd(logged(value))
    assert run(tmp_path, **WORLD)[1].statuses == {"ok": 1}


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (lambda x: x.flatten(1).sum(1)[:3], "scores of shape (3,) for 64 samples"),
        (
            lambda x: torch.full((len(x),), torch.nan),
            "scores that are not finite: nan for sample 0",
        ),
        (lambda x: x.flatten(1).sum(1, keepdim=True), "scores of shape (64, 1)"),
        (lambda x: torch.zeros(len(x), dtype=torch.long), "scores of type int64"),
        (lambda x: [0.0] * len(x), "scores as a value of type list"),
    ],
)
def test_bad_scores_fail_the_cell_and_name_the_reward(monkeypatch, tmp_path, scores, says):
    odd_plugins.install(monkeypatch)
    monkeypatch.setitem(odd_plugins.SCORES, "odd", scores)
    store, outcome = run(tmp_path, **WORLD | {"methods": ["odd"], "rewards": ["odd:name=odd"]})
    (reason,) = tables(store)["cells"].reason
    assert outcome.statuses == {"failed": 1} and f"the reward OddReward returned {says}" in reason


def test_huge_samples_end_in_notes_and_in_a_report(odd, tmp_path):
    from reports.html import write_page

    odd(lambda problem, n: Samples(torch.full((n, 2), 1e30)))
    store, outcome = run(tmp_path, **WORLD)
    assert outcome.statuses == {"ok": 1}
    assert write_page(store.folder).exists()
    found = tables(store)["metrics"]
    assert found[found.value.isna()].note.str.len().gt(0).all()
