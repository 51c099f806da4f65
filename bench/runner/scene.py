"""Staging a cell: its task, reward and method, and the metered problem handed to the method."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.core import adapters, plugins
from bench.core.cells import Cell, canonical
from bench.core.contracts import FineTuning, Flow, Method, Target, Task
from bench.core.metering import Meter, refuse_transforms
from bench.core.noise import NoiseSource
from bench.core.params import UserError, build
from bench.core.problem import (
    FitProblem,
    MeteredFlow,
    MeteredMap,
    MeteredOracle,
    MeteredPosterior,
    Problem,
)
from bench.core.trainable import MeteredModule, metered_clone
from bench.plan.binding import declares

Decoder = Callable[[Tensor], Tensor]


@dataclass
class Scene:
    """A cell's instances.

    `adapted` is the fitted flow of a fine-tuning method; without it the task's own is sampled.
    """

    task: Task[Any]
    target: Target
    method: Method[Any]
    adapted: Flow | None = None


@lru_cache(maxsize=8)
def cached_task(name: str, params: str) -> Task[Any]:
    """Tasks hold weights, so a worker builds each once."""
    task: Task[Any] = make(plugins.load("tasks", name), json.loads(params), name)
    return task


def make(cls: type[Any], params: dict[str, Any], name: str) -> Any:
    """A plugin instance from its parameters' plain values."""
    return cls(build(cls.Params, params, name))


def stage(cell: Cell, fitted: bytes | None = None) -> Scene:
    """Load the task, the reward and the method of a cell, and what a fit left (safetensors).

    A fine-tuning method without a fit samples the flow as a fit would find it: the work is the
    same.
    """
    task = cached_task(cell.task, canonical(cell.task_params))
    reward = make(plugins.load("rewards", cell.reward), cell.reward_params, cell.reward)
    reward.bind(task)
    method = make(plugins.load("methods", cell.method), cell.method_params, cell.method)
    adapted = _adapted(task, method, fitted) if isinstance(method, FineTuning) else None
    return Scene(task, Target(reward, cell.strength, cell.condition, cell.seed), method, adapted)


def _adapted(task: Task[Any], method: FineTuning[Any], fitted: bytes | None) -> Flow:
    from safetensors.torch import load

    make = _maker(task)
    if fitted is not None:
        return cast(Flow, adapters.restore(make, method.rank, load(fitted)))
    return cast(Flow, adapters.adapt(make(), method.rank).requires_grad_(False).eval())


def _maker(task: Task[Any]) -> Callable[[], nn.Module]:
    assert task.trainable_flow is not None, "planning skips tasks without a trainable flow"
    return task.trainable_flow


def make_problem(cell: Cell, scene: Scene, meter: Meter, rows: range) -> Problem:
    """The metered problem of a cell."""
    task, target = scene.task, scene.target
    condition = cell.condition
    oracle = task.oracle(target.reward, target.strength)
    world = _world(cell)
    wish = (*world, cell.reward, canonical(cell.reward_params))
    flow_map = task.flow_map if declares(task, "flow_map") else None
    posterior, decode = task.posterior, _metered_decoder(cell, task, meter)

    flow, key = (task.flow, world) if scene.adapted is None else (scene.adapted, _own(cell, scene))
    return Problem(
        flow=MeteredFlow(flow, meter, condition, key),
        reward=_scored(cell, target, meter, wish, decode),
        meter=meter,
        source=NoiseSource(cell.seed, cell.task, "" if condition is None else str(condition)),
        rows=rows,
        flow_map=None if flow_map is None else MeteredMap(flow_map, meter, condition, world),
        posterior=None
        if posterior is None
        else MeteredPosterior(posterior, meter, condition, (*world, "posterior")),
        oracle=None if oracle is None else MeteredOracle(oracle, meter, wish),
        decode=decode,
        condition=condition,
    )


def _metered_decoder(cell: Cell, task: Task[Any], meter: Meter) -> Decoder | None:
    """The task's decoder, counted; None where samples are data."""
    if task.decode is None:
        return None
    return meter.wrap("decoder", task.decode, key=_world(cell))


def _scored(
    cell: Cell, target: Target, meter: Meter, key: tuple[str, ...], decode: Decoder | None
) -> Decoder:
    """Strength times the reward of what a sample decodes to; decoder and reward counted apart."""

    def scored(x: Tensor) -> Tensor:
        return target.reward(x, cell.condition) * target.strength

    rewarded = guarded(meter.wrap("reward", scored, key=key), cell.reward)
    return rewarded if decode is None else lambda x: rewarded(decode(x))


def _world(cell: Cell) -> tuple[str, str]:
    """Names a task's callables in the table of FLOP prices."""
    return cell.task, canonical(cell.task_params)


def _own(cell: Cell, scene: Scene) -> tuple[str, ...]:
    """Names an adapted flow there: its price depends on the adapter's rank."""
    assert isinstance(scene.method, FineTuning)
    return (*_world(cell), f"rank {scene.method.rank}")


FIT_ROWS = 1 << 20
"""Sample indices of a fit's noise: more than any batch."""


def make_fit_problem(cell: Cell, scene: Scene, meter: Meter) -> FitProblem:
    """What the fit of a cell of part "fit" is handed; its noise is apart from that of sampling."""
    with suppress(UserError):  # reading or encoding data, once, belongs to no fit
        scene.task.draw_data(1, torch.Generator().manual_seed(0))
    base = make_problem(cell, replace(scene, adapted=None), meter, range(FIT_ROWS))
    problem = replace(base, source=replace(base.source, task=f"{cell.task}/fit"))

    def trainable(rank: int = 0) -> MeteredModule:
        module = adapters.adapt(_maker(scene.task)(), rank)
        key = (*_world(cell), f"rank {rank}", "trained")
        return metered_clone(module, meter, cell.condition, key)

    def data(n: int, step: int) -> Tensor:
        label = f"{cell.seed}/{cell.task}/data/{step}".encode()
        seed = int.from_bytes(hashlib.blake2b(label, digest_size=7).digest(), "big")
        return scene.task.draw_data(n, torch.Generator().manual_seed(seed))

    return FitProblem(problem, [cell.condition], data, trainable)


def guarded(reward: Decoder, name: str) -> Decoder:
    """`reward` without silent NaNs: a value or gradient that is not finite is an error.

    It names the reward, the sample and the call within the cell; the loops add the step.  Outside
    the meter, so that calls made to count FLOPs are no calls of the method.
    """
    calls = itertools.count(1)

    def score(x: Tensor) -> Tensor:
        refuse_transforms("reward")
        call = f" in call {next(calls)} of the reward"
        arrived: list[Tensor] = []
        if isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled():
            # A view of its own: the hook sees what passes through this call and nothing else.
            x = x.view_as(x)
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: _blamed(slope, arrived, name, call)
            )
        scores = checked(reward(x), name, call)
        if scores.requires_grad:
            scores.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: arrived.__setitem__(slice(None), [slope])
            )
        return scores

    return score


def _blamed(slope: Tensor, arrived: list[Tensor], name: str, call: str) -> None:
    """Refuse a gradient that the reward spoilt; what came broken is not the reward's fault."""
    if all(bool(torch.isfinite(came).all()) for came in arrived):
        checked(slope, name, call, what="the gradient of the reward")


def checked(scores: Tensor, name: str, call: str = "", what: str = "the reward") -> Tensor:
    """Scores, if they are finite; a NaN is an error that names the reward and the sample."""
    bad = ~torch.isfinite(scores.detach())
    if bool(bad.any()):
        first = int(bad.nonzero()[0, 0])
        raise FloatingPointError(f"{what} '{name}' is not finite for sample {first}{call}")
    return scores
