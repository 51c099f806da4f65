"""The instances that a cell names: its task, its reward as part of a target law, its method."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

from torch import nn

from bench.core import adapters, plugins
from bench.core.cells import Cell, canonical
from bench.core.methods import FineTuning, Method
from bench.core.metrics import Target
from bench.core.params import UserError, build
from bench.core.place import HOST, Place
from bench.core.protocols import Flow
from bench.core.rounded import keep_rounded, part_at
from bench.core.seeding import seeded
from bench.core.tasks import Reward, Task


@dataclass
class Instances:
    """A cell's instances.

    `adapted` is the fitted flow of a fine-tuning method; without it the task's own is sampled.
    Networks lie at `place`, and the target's reward is scored there.
    """

    task: Task[Any]
    target: Target
    method: Method[Any]
    adapted: Flow | None = None
    place: Place = HOST

    def under(self, cell: Cell) -> Instances:
        """The same for a cell of one condition, with a method that no other cell holds."""
        read, condition = self.task.sentence(cell.condition), cell.condition
        target = replace(self.target, condition=condition, read=read, cache={})
        return replace(self, target=target, method=type(self.method)(self.method.params))


@lru_cache(maxsize=8)
def cached_task(name: str, params: str, _version: str = "") -> Task[Any]:
    """Tasks hold weights, so a worker builds each once; of another version it is another one."""
    with seeded(f"{name} {params}"):  # not by the cell that happens to come first
        task: Task[Any] = make("tasks", name, json.loads(params))
    return task


def make(group: plugins.Group, name: str, params: dict[str, Any]) -> Any:
    """The plugin of a name with its parameters' plain values."""
    cls = plugins.load(group, name)
    return cls(build(cls.Params, params, name))


def instances_of(cell: Cell, fitted: bytes | None = None) -> Instances:
    """Load the task, the reward and the method of a cell, and what a fit left (safetensors).

    A fine-tuning method without a fit samples the flow as a fit would find it: the work is the
    same.
    """
    place = Place(cell.device, cell.dtype)
    place.check()
    version = cell.versions.get("task", "")
    task = cached_task(cell.task, canonical(cell.task_params), version)
    place.carry(part_at(task, "flow", place), task.posterior, task.decode)
    reward = make("rewards", cell.reward, cell.reward_params)
    _as_planned(reward, cell)
    reward.bind(task)
    method = make("methods", cell.method, cell.method_params)
    adapted = _adapted(task, method, fitted) if isinstance(method, FineTuning) else None
    keep_rounded(adapted, place)
    place.carry(adapted)
    scored, read = place.reward(reward, task), task.sentence(cell.condition)
    target = Target(scored, cell.strength, cell.condition, cell.seed, read=read)
    return Instances(task, target, method, adapted, place)


def _as_planned(reward: Reward[Any], cell: Cell) -> None:
    """Raise UserError unless the reward's weights are those under which the cell is stored."""
    for name, found in reward.weights().items():
        planned = cell.weights.get(name)
        if planned != found:
            raise UserError(
                f"{name} of the reward '{cell.reward}' is {found} and was {planned} when the cell "
                "was planned: plan again, with a new --name to keep both"
            )


def _adapted(task: Task[Any], method: FineTuning[Any], fitted: bytes | None) -> Flow:
    from safetensors.torch import load

    make = flow_maker(task)
    if fitted is not None:
        return cast(Flow, adapters.restore(make, method.rank, load(fitted)))
    return cast(Flow, adapters.adapt(make(), method.rank).requires_grad_(False).eval())


def flow_maker(task: Task[Any]) -> Callable[[], nn.Module]:
    """What makes a fresh flow to train."""
    assert task.trainable_flow is not None, "planning skips tasks without a trainable flow"
    return task.trainable_flow
