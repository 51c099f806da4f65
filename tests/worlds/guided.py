"""A guided task: a flow and a map whose every call runs their network twice (CFG)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.api import Condition, NoParams, Reward, Task
from bench.core.cells import Cell
from bench.core.paths import Linear

SCALE = 2.0


class Network(nn.Module):
    """v(x; label), and how many rows it was run on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.label, self.rows = nn.Linear(2, 2), nn.Embedding(3, 2), 0

    def forward(self, x: Tensor, label: int) -> Tensor:
        self.rows += len(x)
        out: Tensor = self.linear(x) + self.label.weight[label]
        return out


class GuidedFlow(nn.Module):
    """v(x; none) + w (v(x; label) - v(x; none)); label 0 stands for none."""

    def __init__(self) -> None:
        super().__init__()
        self.event_shape, self.interpolant, self.network = (2,), Linear(), Network()

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        none, told = self.network(x, 0), self.network(x, condition or 0)
        out: Tensor = none + SCALE * (told - none)
        return out


class GuidedMap:
    """One Euler step of the guided flow."""

    def __init__(self, flow: GuidedFlow) -> None:
        self.flow = flow

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        return self.flow.velocity(x_bar, s, condition)

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        return x + (u - s)[:, None] * self.flow.velocity(x, s, condition)


class Guided(Task[NoParams]):
    """Labels 1 and 2, guided."""

    guided = True
    event_shape = (2,)

    def __init__(self, params: NoParams) -> None:
        super().__init__(params)
        self.flow = self.network_flow = GuidedFlow()
        self.flow_map = GuidedMap(self.network_flow)

    def trainable_flow(self) -> nn.Module:
        return GuidedFlow()


class Plain(Guided):
    """The same flow, said to run once."""

    guided = False


class Sum(Reward[NoParams]):
    """The sum of the coordinates."""

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return x.sum(-1)


def guided_cell(condition: Condition, n: int) -> Cell:
    """A cell of the task; its method is nobody's."""
    none: dict[str, str] = {}
    names = {"task": "guided", "reward": "sum", "method": "none"}
    params = {f"{name}_params": {} for name in names}
    return Cell(
        **names, **params, strength=1.0, condition=condition, n=n, seed=0, threads=1,
        versions=none, weights=none, batch=n,
    )  # fmt: skip
