"""A new task: a small velocity network on points, to be replaced by a flow that was trained."""

SOURCE = '''\
"""The task `$name`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from bench.api import Condition, Linear, Reference, Reward, Task, param
from torch import Tensor, nn


@dataclass(frozen=True)
class Params:
    """Which world it is: part of the target law, hence never tuned."""

    width: float = param(0.2, low=0.01, high=1.0, tunable=False, help="deviation of the data")


class Flow(nn.Module):
    """Any torch module becomes a flow by its shape, its interpolant and its velocity.

    Time 0 is noise and 1 is data: x_t = (1 - t) x0 + t x1.  This one is exact for data that are
    normal around 1; load a network's weights here, and name their hash in `weights` of the task.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.event_shape, self.interpolant = (2,), Linear()
        self.mean = nn.Parameter(torch.ones(2))
        self.width = width

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) for x (batch, 2) and t (batch,)."""
        time = t[:, None]
        variance = (1 - time) ** 2 + (time * self.width) ** 2
        growth = (time * self.width**2 - (1 - time)) / variance
        return self.mean + growth * (x - time * self.mean)


class $cls(Task[Params]):
    """Normal points around (1, 1) (this line is what `bench list tasks` shows)."""

    summary = "normal points around (1, 1)"  # what a report says of it
    Params = Params
    metrics = ("reward", "reward-excess", "mmd2-tilted", "diversity")
    event_shape = (2,)

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.flow = Flow(params.width)

    def trainable_flow(self) -> nn.Module:  # type: ignore[override]
        """A fresh module that equals `flow`, for methods that fine-tune; leave it out if none."""
        return Flow(self.params.width)

    def data(self, split: str) -> Tensor:
        """Real samples (n, 2) of a split: other ones for training than for measuring."""
        generator = torch.Generator().manual_seed(sum(split.encode()))
        return 1 + self.params.width * torch.randn(4096, 2, generator=generator)

    @torch.no_grad()
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference:
        """The data, weighted by e^r: the tilted law as far as the data know it."""
        x = self.data("reference")
        return Reference(x, (strength * reward(x, condition).double()).softmax(0).float())
'''

TEST = '''\
"""`$name` keeps the contracts of a task, and its flow leads from noise to its data."""

import subprocess
import sys

import torch
from bench.api import euler, integrate, uniform_grid

from $module import $cls


def test_it_keeps_the_contracts() -> None:
    subprocess.run([sys.executable, "-m", "bench", "check", "task", "$name"], check=True)


def test_its_flow_leads_to_its_data() -> None:
    task = $cls.create()
    x0 = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x1 = integrate(euler(task.flow.velocity), x0, uniform_grid(100))
    assert torch.allclose(x1.mean(0), task.data("report").mean(0), atol=0.05)
    assert torch.allclose(x1.std(0), task.data("report").std(0), rtol=0.1)
'''
