"""Pilots: matching in seconds on a machine that is now faster, now slower."""

from itertools import pairwise

import pytest

from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner import pilots
from bench.runner.pilots import Pilots

EACH = {"DPS": 0.03}
"""Seconds per sample of a step on the idle machine; 0.01 for all other methods."""


ASKED = ("dps", "lgd-mc")


def suite(methods=("dps", "lgd-mc:draws=1"), **changes):
    content = {
        "name": "seconds", "tasks": ["gmm-paper"], "rewards": ["linear"], "n": 8, "seeds": 1,
        "methods": list(methods), "budgets": ["seconds=10"],
    }  # fmt: skip
    return build_suite(content | changes)


class Machine:
    """Takes what `EACH` says per step, times a load that its `load(call number)` decides."""

    def __init__(self, monkeypatch, load) -> None:
        self.calls, self.load = [], load
        monkeypatch.setattr(pilots, "_seconds", self.seconds)

    def seconds(self, cell, method) -> float:
        name = type(method).__name__
        self.calls.append(name)
        return EACH.get(name, 0.01) * method.params.steps * self.load(len(self.calls))


def efforts(rows):
    return {row.cell.method: row.matched.get("steps") for row in rows if row.cell.method in ASKED}


def test_on_a_steady_machine_every_method_takes_the_budget(monkeypatch):
    Machine(monkeypatch, lambda _: 1.0)
    assert efforts(expand(suite(), Pilots())) == {"dps": 333, "lgd-mc": 1000}


def test_methods_are_timed_in_turns_so_that_a_slow_minute_hits_all_alike(monkeypatch):
    """One method is matched while the machine is at half speed; turns see all at full speed."""
    turns, before = [], []

    def load(_call: int) -> float:
        return 2.0 if machine.calls[-1] == "LGDMC" and not turns else 1.0

    machine = Machine(monkeypatch, load)
    plain = pilots.in_turns

    def watched(rates):
        turns.append(len(machine.calls))
        before.extend(rate.match().values.get("steps") for rate in rates)
        return plain(rates)

    monkeypatch.setattr(pilots, "in_turns", watched)
    assert efforts(expand(suite(), Pilots())) == {"dps": 333, "lgd-mc": 1000}
    assert 500 in before and 333 in before
    assert all(a != b for a, b in pairwise(machine.calls[turns[0] :]))


def test_what_was_settled_is_not_piloted_again(monkeypatch):
    machine, kept = Machine(monkeypatch, lambda _: 1.0), []
    first = efforts(expand(suite(), Pilots(write=kept.append)))
    calls = len(machine.calls)
    again = Pilots(read=lambda: kept[-1])
    assert efforts(expand(suite(), again)) == first and len(machine.calls) == calls


def test_a_plan_that_is_killed_before_the_turns_is_piloted_again(monkeypatch):
    """What was matched while the machine was slow is not remembered as settled."""
    machine, kept = Machine(monkeypatch, lambda _: 2.0), [b"{}"]
    with monkeypatch.context() as patched:
        patched.setattr(pilots, "in_turns", lambda rates: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            expand(suite(), Pilots(write=kept.append))
    machine.load = lambda _: 1.0
    again = Pilots(read=lambda: kept[-1])
    assert efforts(expand(suite(), again)) == {"dps": 333, "lgd-mc": 1000}


def test_matches_from_outside_a_plan_are_left_alone(monkeypatch):
    """A trial of a sweep keeps its match, or it would become another trial."""
    machine, asked = Machine(monkeypatch, lambda _: 1.0), []
    with monkeypatch.context() as patched:
        real = Pilots.match
        patched.setattr(Pilots, "match", lambda self, q: asked.append(q) or real(self, q))
        expand(suite(), Pilots())
    known = Pilots()
    trials = [known.match(question) for question in asked]
    machine.load = lambda _: 2.0
    expand(suite(["tfg"]), known)
    assert [known.match(question) for question in asked] == trials


def test_a_budget_below_the_least_setting_is_infeasible_and_not_timed_in_turns(monkeypatch):
    Machine(monkeypatch, lambda _: 1.0)
    rows = expand(suite(budgets=["seconds=0.02"]), Pilots())
    status = {row.cell.method: row.status for row in rows}
    assert status["dps"] == "infeasible"


@pytest.mark.parametrize("unit", ["flops=1e8"])
def test_prompts_of_one_suite_share_a_pilot(monkeypatch, unit):
    """Matching depends on no condition: what one prompt's pilot found serves the next."""
    searched = []
    real = pilots._searched
    monkeypatch.setattr(pilots, "_searched", lambda q: searched.append(q) or real(q))
    asked = suite(["dps"], tasks=["shapes"], rewards=["prompt"], n=4, budgets=[unit])
    rows = expand(asked, Pilots())
    own = [row for row in rows if row.cell.method == "dps"]
    assert len({str(row.cell.condition) for row in own}) > 1
    assert len(searched) == len({row.cell.method for row in rows})
    assert len({str(row.matched) for row in own}) == 1
