"""Methods and rewards that misbehave in one way each, as plugins of the right names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import torch
from torch import Tensor

from bench.api import Method, Reward, Samples, Work
from bench.core import plugins
from bench.core.params import param


class Odd(Method[Any]):
    """Returns what `MAKES[name]` makes of (problem, n)."""

    @dataclass(frozen=True)
    class Params:
        name: str = param("plain")

    def work(self, spec: Any) -> Work:
        return Work()

    def sample(self, problem: Any, n: int) -> Any:
        return MAKES[self.params.name](problem, n)


class OddReward(Reward[Any]):
    """Scores what `SCORES[name]` makes of x."""

    @dataclass(frozen=True)
    class Params:
        name: str = param("plain")

    differentiable = False
    wants = "data"

    def __call__(self, x: Tensor, condition: Any) -> Any:
        return SCORES[self.params.name](x)


def plain(problem: Any, n: int) -> Samples:
    """Good samples: the initial noise."""
    return Samples(problem.x0())


MAKES: dict[str, Callable[[Any, int], Any]] = {"plain": plain}
"""What a method of that name returns."""

SCORES: dict[str, Callable[[Tensor], Any]] = {"plain": lambda x: x.flatten(1).sum(1)}
"""What a reward of that name scores."""


def install(monkeypatch: Any) -> None:
    """Make both known under the names `odd`, in this process."""
    for group, name in (("methods", "Odd"), ("rewards", "OddReward")):
        point = EntryPoint("odd", f"{__name__}:{name}", f"bench.{group}")
        known = {**plugins.points(group), "odd": point}
        _shown(monkeypatch, group, known)
    importlib.import_module(__name__)


def _shown(monkeypatch: Any, group: str, known: dict[str, EntryPoint]) -> None:
    found = plugins.points

    def points(asked: Any) -> dict[str, EntryPoint]:
        return known if asked == group else found(asked)

    points.cache_clear = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr(plugins, "points", points)


def random_state() -> list[float]:
    """Numbers of the global generators of PyTorch, NumPy and Python."""
    import random

    import numpy as np

    return [float(torch.rand(())), float(np.random.rand()), random.random()]  # noqa: NPY002
