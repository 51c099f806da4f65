"""Methods that only tests know, and sweeps of them and of a real one that are over in seconds."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
import torch

from bench.api import Method, Samples, forward
from bench.core import plugins
from bench.core.params import param
from bench.record.store import Store
from bench.runner.executors.inline import Inline
from bench.runner.pilots import Pilots
from sweeps.driver import run_sweep
from sweeps.planner import Planner
from tests.worlds.small_sweep import small_sweep


class Shift(Method):
    """Adds a constant to the noise; some constants fail, in every way there is."""

    @dataclass(frozen=True)
    class Params:
        shift: float = param(0.0, low=-4.0, high=4.0)
        steps: int = param(5, low=2, high=100)
        draws: int = param(1, low=1, high=50)
        mode: str = param("plain", choices=("plain", "wild"))
        wildness: float = param(1.0, low=0.1, high=10.0, log=True)
        best: float = param(0.0, low=0.0, high=1.0, tunable=False)
        fit_seed: int = param(0, low=0)

        search: ClassVar = {"wildness": {"when": {"mode": ["wild"]}}}

    effort = ("draws", "steps")

    def work(self, spec):
        return forward("flow", self.params.steps * self.params.draws)

    @torch.no_grad()
    def sample(self, problem, n):
        x = problem.x0()
        for _ in range(self.params.steps * self.params.draws):
            problem.flow.velocity(x, torch.full((len(x),), 0.5))
        if self.params.shift > 3:
            raise ValueError("too far")
        if self.params.shift < -3:
            raise FloatingPointError("diverged")
        return Samples(x + self.params.shift)


class Timid(Shift):
    """Uses a budget badly."""

    def work(self, spec):
        return forward("flow", 7 * self.params.steps * self.params.draws)

    @torch.no_grad()
    def sample(self, problem, n):
        x = problem.x0()
        for _ in range(7 * self.params.steps * self.params.draws):
            problem.flow.velocity(x, torch.full((len(x),), 0.5))
        return Samples(x + self.params.shift)


class Adrift(Shift):
    """Never arrives."""

    def sample(self, problem, n):
        raise FloatingPointError("lost at sea")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name in ("Shift", "Timid", "Adrift"):
        point = EntryPoint(name.lower(), f"tests.worlds.toy_sweeps:{name}", "bench.methods")
        monkeypatch.setitem(plugins._installed("methods"), name.lower(), [point])


TOY = small_sweep(
    "shift", "paper-nfe=20", reward="linear", trials=12, sampler="tpe:startup=4", space={}
)
SMALL = {"guidance": "0.1..10:log", "scale": "off", "start": "off", "noise_level": "off"}
REAL = small_sweep("mfm-g", "paper-nfe=60", trials=8, space={**SMALL, "inner_steps": "off"})


def sweep(root, spec=TOY, name="s", **options):
    return run_sweep(spec, Store(str(root), name), Inline, **options)


def suggestions(swept):
    return [(t.number, t.label, t.params) for study in swept.studies for t in study.trials]


def planner(spec, label=None):
    return Planner(spec, label or spec.methods[0], Pilots())
