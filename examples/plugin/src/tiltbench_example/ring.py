"""A reward for points near a circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.api import Condition, Reward, Task, param


@dataclass(frozen=True)
class RingParams:
    """Which ring: part of the target law, hence never tuned."""

    radius: float = param(1.0, low=0.0, tunable=False, help="distance from the origin")
    width: float = param(0.2, low=1e-3, tunable=False, help="standard deviation of the distance")


class Ring(Reward[RingParams]):
    """Ring: r(x) = -(|x| - radius)^2 / (2 width^2); not quadratic, so no oracle exists."""

    Params = RingParams

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        distance: Tensor = torch.linalg.vector_norm(x, dim=1)
        return -(distance - self.params.radius).square() / (2 * self.params.width**2)

    def compatible(self, task: Task[Any]) -> str | None:
        if len(task.event_shape) != 1:
            return f"it scores flat vectors, and the task's samples have shape {task.event_shape}"
        return None
