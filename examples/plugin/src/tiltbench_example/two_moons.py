"""Two moons with a flow of one's own: what it takes to bring a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import Condition, Linear, Reference, Reward, Task, param


def moons(points: int) -> Tensor:
    """`points` points on two interleaved half circles, (points, 2)."""
    angle = torch.linspace(0, math.pi, points // 2)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    return torch.cat([upper, lower]) - torch.tensor([0.5, 0.25])


class OwnFlow(nn.Module):
    """Any torch module becomes a flow by saying its shape, its interpolant and its velocity.

    This one is exact: the velocity of a cloud of points y_i smoothed with deviation h is
    sum_i w_i b_i, with w_i = softmax_i(-|x - t y_i|^2 / 2 v), v = (1 - t)^2 + t^2 h^2 and
    b_i = y_i + (v'/2v) (x - t y_i).  A trained network would go in its place.
    """

    def __init__(self, points: Tensor, width: float) -> None:
        super().__init__()
        self.points, self.width = nn.Parameter(points), width
        self.event_shape, self.interpolant = tuple(points.shape[1:]), Linear()

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) for x (batch, 2) and t (batch,)."""
        time = t[:, None, None]
        v = (1 - time) ** 2 + (time * self.width) ** 2
        away = x[:, None] - time * self.points
        weight = torch.softmax(-away.square().sum(2, keepdim=True) / (2 * v), dim=1)
        half_growth = (time * self.width**2 - (1 - time)) / v
        return (weight * (self.points + half_growth * away)).sum(1)


@dataclass(frozen=True)
class TwoMoonsParams:
    """Which cloud."""

    points: int = param(128, low=2, high=4096, tunable=False, help="points on both moons")
    width: float = param(0.1, low=0.01, high=1.0, tunable=False, help="deviation around them")


class TwoMoons(Task[TwoMoonsParams]):
    """Two moons in the plane, with the exact flow of the smoothed points."""

    Params = TwoMoonsParams
    metrics = ("reward", "diversity")
    event_shape = (2,)

    def __init__(self, params: TwoMoonsParams) -> None:
        super().__init__(params)
        self.flow = OwnFlow(moons(params.points), params.width)

    def data(self, split: str) -> Tensor:
        """8,192 draws of the smoothed points: other numbers for every split."""
        generator = torch.Generator().manual_seed(sum(split.encode()))
        points = moons(self.params.points)
        chosen = torch.randint(len(points), (8192,), generator=generator)
        return points[chosen] + self.params.width * torch.randn(8192, 2, generator=generator)

    @torch.no_grad()
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference:
        """The data, weighted by e^r: the tilted law as far as the data know it."""
        x = self.data("reference")
        weight = (strength * reward(x, condition).double()).softmax(0)
        return Reference(x, weight.float())
