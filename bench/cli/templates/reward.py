"""A new reward: closeness to a point, to be replaced by what is really wanted."""

SOURCE = '''\
"""The reward `$name`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from bench.api import Condition, Quadratic, Reward, Task, param
from torch import Tensor


@dataclass(frozen=True)
class Params:
    """What is asked for: it decides the target law, hence it is not tunable."""

    center: float = param(0.5, tunable=False, help="the wanted value of every entry")
    sharpness: float = param(1.0, low=0.0, tunable=False, help="curvature of the reward")


class $cls(Reward[Params]):
    """Closeness to a point: r(x) = -sharpness |x - center|^2 / 2."""

    Params = Params
    differentiable = True

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        """Raw scores, float32 (batch,), higher is better; the strength is multiplied later."""
        return -self.params.sharpness / 2 * (x - self.params.center).flatten(1).square().sum(1)

    def compatible(self, task: Task[Any]) -> str | None:
        """The reason why it cannot score the task's samples; this one scores any shape."""
        return None

    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        """The closed form, which gives `oracle` and `exact`; remove it if there is none."""
        if len(task.data_shape) != 1:
            return None
        s, c, ones = self.params.sharpness, self.params.center, torch.ones(task.data_shape[0])
        return Quadratic(s * c * ones, s * torch.diag(ones), -s / 2 * c**2 * len(ones))
'''

TEST = '''\
"""`$name` keeps the contracts of a reward and is highest where it says."""

import subprocess
import sys

import torch

from $module import $cls


def test_it_keeps_the_contracts() -> None:
    subprocess.run([sys.executable, "-m", "bench", "check", "reward", "$name"], check=True)


def test_it_is_highest_at_the_center() -> None:
    reward = $cls.create(center=2.0)
    x = torch.full((5, 3), 2.0)
    assert (reward(x, None) > reward(x + torch.randn(5, 3), None)).all()
'''
