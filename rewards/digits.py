"""Rewards on the 8x8 digits, each with a judge that no method optimises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.api import Condition, Reward, Task, param
from bench.models import digits
from bench.models.digits_data import DIGIT_SHAPE, real_digits

P = TypeVar("P")


class DigitReward(Reward[P]):
    """A reward that only scores digits."""

    def compatible(self, task: Task[Any]) -> str | None:
        if tuple(task.data_shape) != DIGIT_SHAPE:
            return f"it scores 8x8 digits, and the task's samples have shape {task.data_shape}"
        return None


@dataclass(frozen=True)
class ClassMixtureParams:
    """Which classes, and how much of each."""

    classes: tuple[int, ...] = param((1, 3, 5, 7, 9), tunable=False, help="digit classes")
    weights: tuple[float, ...] = param((0.1, 0.1, 0.2, 0.2, 0.4), tunable=False, help="weights")

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.weights):
            raise ValueError("classes and weights must have the same length")


class ClassMixture(DigitReward[ClassMixtureParams]):
    """log sum_i w_i p(y_i | x): ask for a mixture of classes (the paper's MNIST experiment)."""

    Params = ClassMixtureParams

    def _score(self, log_p: Tensor) -> Tensor:
        log_w = torch.tensor(self.params.weights, dtype=log_p.dtype, device=log_p.device).log()
        return (log_p[:, list(self.params.classes)] + log_w).logsumexp(-1)

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return self._score(digits.log_probabilities("guidance", x))

    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        return self._score(digits.log_probabilities("judge", x))

    def highest(self, task: Task[Any]) -> float:
        return math.log(float(self.class_weights().max()))

    def class_weights(self) -> Tensor:
        """w over the ten classes; a class that is named twice has the sum."""
        named, weights = torch.tensor(self.params.classes), torch.tensor(self.params.weights)
        return torch.zeros(10).index_add(0, named, weights)


@dataclass(frozen=True)
class ClassParams:
    """Which class."""

    label: int = param(3, low=0, high=9, tunable=False, help="the digit asked for")


class ClassProbability(DigitReward[ClassParams]):
    """log p(y | x): ask for one class."""

    Params = ClassParams

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return digits.log_probabilities("guidance", x)[:, self.params.label]

    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        return digits.log_probabilities("judge", x)[:, self.params.label]

    def highest(self, task: Task[Any]) -> float:
        return 0.0

    def class_weights(self) -> Tensor:
        """One-hot."""
        w = torch.zeros(10)
        w[self.params.label] = 1.0
        return w


@dataclass(frozen=True)
class ExampleParams:
    """A digit of the held-out set."""

    index: int = param(0, low=0, high=359, tunable=False, help="held-out digit to aim at")


E = TypeVar("E", bound=ExampleParams)


class _Example(DigitReward[E]):
    """Rewards about one held-out digit; the judge asks for the digit's class."""

    def bind(self, task: Task[Any]) -> None:
        held_out, index = real_digits("held-out"), self.params.index
        self.goal, self.label = held_out.x[index], int(held_out.y[index])

    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        return digits.log_probabilities("judge", x)[:, self.label]


class Template(_Example[ExampleParams]):
    """Cosine of the ink with a held-out digit's: bounded, smooth, easy to fool."""

    Params = ExampleParams

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        ink, goal = x.flatten(1) + 1, (self.goal.to(x).flatten() + 1)
        return torch.nn.functional.cosine_similarity(ink, goal[None], dim=1)

    def highest(self, task: Task[Any]) -> float:
        return 1.0


@dataclass(frozen=True)
class DigitInpaintParams(ExampleParams):
    """What is observed and how precisely."""

    rows: int = param(4, low=1, high=8, tunable=False, help="observed rows, from the top")
    sigma: float = param(0.5, low=1e-3, tunable=False, help="noise standard deviation")


class Inpaint(_Example[DigitInpaintParams]):
    """Inpainting: log-likelihood, up to a constant, of the top rows of a held-out digit."""

    Params = DigitInpaintParams

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        seen = slice(0, self.params.rows)
        error = (x - self.goal.to(x))[:, :, seen].flatten(1)
        return -error.square().sum(1) / (2 * self.params.sigma**2)

    def highest(self, task: Task[Any]) -> float:
        return 0.0
