"""Contract tests of rewards: every way of being broken is caught by its own check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.api import Condition, Quadratic, Task
from bench.conformance.check import check_reward
from bench.plan.binding import make_task
from tests.worlds.contract_findings import Bowl, failed

# -- broken rewards -------------------------------------------------------------------------------


class WrongGradient(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -(x * x.detach()).flatten(1).sum(1) / 2


class NoGradient(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x.detach(), condition)


class InfiniteSlope(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -x.flatten(1).square().sum(1).sqrt()


class Overflows(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return x.flatten(1).exp().sum(1)


class Doubles(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x, condition).double()


class Standardises(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x - x.mean(0), condition)


class Shaky(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x, condition) + torch.rand(len(x))


class FlatOnly(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -x.square().sum(1) / 2


class WrongForm(Bowl):
    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        return Quadratic(torch.zeros(2), 2 * torch.eye(2))


class LooseParams(Bowl):
    @dataclass
    class Params:
        scale: float = 1.0


class IntegerJudge(Bowl):
    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        return torch.zeros(len(x), dtype=torch.int64)


BROKEN_REWARDS: dict[type[Bowl], set[str]] = {
    Bowl: set(),
    WrongGradient: {"gradient"},
    NoGradient: {"gradient"},
    InfiniteSlope: {"gradient"},
    Overflows: {"score"},
    Doubles: {"score"},
    Standardises: {"batch size", "gradient"},
    Shaky: {"repeatable", "batch size", "gradient", "rows of conditions"},
    FlatOnly: {"foreign shape"},
    WrongForm: {"quadratic"},
    LooseParams: {"parameters"},
    IntegerJudge: {"judge"},
}


@pytest.mark.parametrize("cls", BROKEN_REWARDS, ids=lambda cls: cls.__name__)
def test_broken_rewards_are_caught(cls: type[Bowl]) -> None:
    _, task = make_task("gmm:dimension=2")
    findings = check_reward(cls.create(), task, "gmm")
    assert failed(findings) == BROKEN_REWARDS[cls], findings
