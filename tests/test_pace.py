"""Seconds read in yardsticks: a machine that slows down moves no match."""

import pytest
import torch

from bench.runner import pace
from bench.runner.cells import Cell
from bench.runner.pace import Pace
from bench.runner.planning import expand
from bench.runner.suite import build_suite


def a_cell() -> Cell:
    content = {"name": "pace", "tasks": ["gmm-paper"], "rewards": ["linear"], "methods": ["prior"]}
    return expand(build_suite(content | {"n": 8, "seeds": 1}))[0].cell


class Machine:
    """A clock that gains a millisecond per forward of the flow, times how slow the machine is."""

    def __init__(self, monkeypatch, cell: Cell) -> None:
        self.now, self.slow = 0.0, 1.0
        flow = pace.stage(cell).task.flow
        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(type(flow), "velocity", self.velocity)

    def velocity(self, x, _t, _condition=None):
        self.spend(0.001)
        return torch.zeros_like(x)

    def spend(self, seconds: float) -> float:
        self.now += self.slow * seconds
        return self.slow * seconds


def test_a_slower_machine_takes_the_same_seconds_at_the_runs_pace(monkeypatch):
    machine = Machine(monkeypatch, a_cell())
    measured = Pace(a_cell())
    assert measured.length == pytest.approx(0.001)
    machine.slow = 1.7
    assert measured.seconds(lambda: machine.spend(2.0)) == pytest.approx(2.0)


def test_a_machine_that_slows_down_meanwhile_is_off_by_one_repeat_at_most(monkeypatch):
    machine = Machine(monkeypatch, a_cell())
    measured, repeats = Pace(a_cell()), iter(range(pace.REPEATS))

    def run() -> float:
        machine.slow = 1.0 if next(repeats) < 2 else 1.5
        return machine.spend(2.0)

    assert measured.seconds(run) == pytest.approx(2.0)


def test_a_stored_length_stands_for_the_first_yardstick(monkeypatch):
    machine = Machine(monkeypatch, a_cell())
    machine.slow = 3.0
    later = Pace(a_cell(), length=0.001)
    assert later.seconds(lambda: machine.spend(2.0)) == pytest.approx(2.0)


def test_prompts_of_one_suite_share_a_pilot(monkeypatch):
    """Matching depends on no condition: what one prompt's pilot found serves the next."""
    from bench.runner import pilots

    searched = []
    real = pilots._search
    monkeypatch.setattr(pilots, "_search", lambda q, p: searched.append(q) or real(q, p))
    content = {
        "name": "prompts", "tasks": ["shapes"], "rewards": ["prompt"], "n": 4, "seeds": 1,
        "methods": ["dps"], "budgets": ["flops=1e8"],
    }  # fmt: skip
    rows = expand(build_suite(content), pilots.Pilots())
    own = [row for row in rows if row.cell.method == "dps"]
    assert len({str(row.cell.condition) for row in own}) > 1
    assert len(searched) == len({row.cell.method for row in rows})
    assert len({str(row.matched) for row in own}) == 1
