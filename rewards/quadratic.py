"""Quadratic rewards: the ones whose tilted law is known on every mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.api import Condition, Quadratic, Reward, Task, param, quadratic

P = TypeVar("P")


def cycled(values: tuple[float, ...], dimension: int) -> Tensor:
    """`values` repeated to `dimension` entries, scaled to keep their norm."""
    given = torch.tensor(values, dtype=torch.float64)
    repeated = given.repeat(-(-dimension // len(given)))[:dimension]
    out: Tensor = repeated * (given.norm() / repeated.norm())
    return out


class QuadraticReward(Reward[P]):
    """A reward that is a quadratic function of a flat state."""

    def bind(self, task: Task[Any]) -> None:
        self._form = self.build(task.data_shape[0])

    def build(self, dimension: int) -> Quadratic:
        """The reward in this dimension."""
        raise NotImplementedError

    def compatible(self, task: Task[Any]) -> str | None:
        if len(task.data_shape) != 1:
            return f"it scores flat vectors, and the task's samples have shape {task.data_shape}"
        return None

    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        return self.build(task.data_shape[0])

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return self._form(x)


@dataclass(frozen=True)
class LinearParams:
    """The direction."""

    a: tuple[float, ...] = param((1.0, -1.0), tunable=False, help="direction, cycled to d entries")


class LinearReward(QuadraticReward[LinearParams]):
    """Linear: r(x) = a . x; the tilt moves every component by its covariance times a."""

    Params = LinearParams

    def build(self, dimension: int) -> Quadratic:
        return quadratic.linear(cycled(self.params.a, dimension))


@dataclass(frozen=True)
class WellParams:
    """Where the well is and how steep."""

    center: tuple[float, ...] = param((1.0,), tunable=False, help="centre, cycled to d entries")
    curvature: float = param(1.0, low=0.0, tunable=False, help="second derivative of the well")


class WellReward(QuadraticReward[WellParams]):
    """Quadratic well: r(x) = -curvature |x - center|^2 / 2."""

    Params = WellParams

    def build(self, dimension: int) -> Quadratic:
        center = torch.tensor(self.params.center, dtype=torch.float64)
        return quadratic.well(center.repeat(dimension)[:dimension], self.params.curvature)


@dataclass(frozen=True)
class ObservationParams:
    """One linear observation y = a . x + N(0, sigma^2); defaults are the paper's."""

    a: tuple[float, ...] = param((1.2, -0.8), tunable=False, help="cycled to d, norm kept")
    y: float = param(-1.0, tunable=False, help="the observed value")
    sigma: float = param(0.2, low=1e-6, tunable=False, help="noise standard deviation")


class ObservationReward(QuadraticReward[ObservationParams]):
    """Linear inverse problem: r(x) = log N(y; a . x, sigma^2), the sharp reward of the paper."""

    Params = ObservationParams

    def build(self, dimension: int) -> Quadratic:
        a = cycled(self.params.a, dimension)[None]
        y = torch.tensor([self.params.y], dtype=torch.float64)
        noise = torch.tensor([[self.params.sigma**2]], dtype=torch.float64)
        return quadratic.observation(a, y, noise)
