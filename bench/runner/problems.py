"""The metered problems of a cell: what its method samples, and what its fit is handed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.core import adapters
from bench.core.cells import Cell, canonical
from bench.core.conditions import RowConditions, Turn, spelled
from bench.core.finite import finite_reward
from bench.core.metered import MeteredFlow, MeteredMap, MeteredOracle, MeteredPosterior
from bench.core.metering import Meter
from bench.core.methods import FineTuning
from bench.core.metrics import Target
from bench.core.noise import NoiseSource
from bench.core.params import UserError
from bench.core.problem import FitProblem, Problem
from bench.core.protocols import Condition
from bench.core.rounded import keep_rounded, part_at
from bench.core.tasks import Task
from bench.core.timing import GUIDED_ROWS, Timing, timing_of
from bench.core.trainable import MeteredModule, metered_clone
from bench.core.workers import ALONE, WorkerGroup
from bench.plan.binding import declares
from bench.runner.instances import Instances, flow_maker
from bench.runner.own_data import OwnData

Decoder = Callable[[Tensor], Tensor]


def make_problem(cell: Cell, instances: Instances, meter: Meter, rows: range) -> Problem:
    """The metered problem of a cell."""
    task, target, condition = instances.task, instances.target, cell.condition
    world, decode = _world(cell), _metered_decoder(cell, instances, meter)
    wish = (*world, cell.reward, cell.versions.get("reward", ""), canonical(cell.reward_params))
    posterior, oracle = task.posterior, task.oracle(target.reward, target.strength)
    return Problem(
        flow=_metered_flow(cell, instances, meter),
        reward=_scored(cell, target, meter, wish, decode),
        meter=meter,
        source=NoiseSource(cell.seed, cell.task, spelled(condition), cell.device),
        rows=rows,
        flow_map=_metered_map(cell, instances, meter),
        posterior=None
        if posterior is None
        else MeteredPosterior(posterior, meter, condition, (*world, "posterior")),
        oracle=None if oracle is None else MeteredOracle(oracle, meter, wish),
        decode=decode,
        condition=condition,
        place=instances.place,
        most_rows=int(cell.resources.get("rows", 0)) or None,
        data_variance=task.data_variance,
    )


def _metered_flow(cell: Cell, instances: Instances, meter: Meter) -> MeteredFlow:
    """The task's flow, or the fitted one; the price of that depends on the adapter's rank."""
    flow, key = part_at(instances.task, "flow", instances.place), _world(cell)
    timing = _timing(instances.task)
    if instances.adapted is not None:
        assert isinstance(instances.method, FineTuning)
        flow, key = instances.adapted, (*key, f"rank {instances.method.rank}")
    place, runs = instances.place, _runs(instances.task)
    return MeteredFlow(flow, meter, cell.condition, key, runs, timing, place)


def _timing(task: Task[Any]) -> Timing:
    """The times and rows of the task's flow, of which the plan knew what the task says."""
    found, said = timing_of(task.flow), task.timing()
    if (found.scheduled, found.rows is None) != (said.scheduled, said.rows is None):
        raise UserError(
            f"the flow of {type(task).__name__} has times or rows that the plan did not know: "
            "return the same from its method timing(), which may not load weights"
        )
    return found


def _metered_map(cell: Cell, instances: Instances, meter: Meter) -> MeteredMap | None:
    task, place = instances.task, instances.place
    flow_map = part_at(task, "flow_map", place) if declares(task, "flow_map") else None
    if flow_map is None:
        return None
    place.carry(flow_map)
    return MeteredMap(flow_map, meter, cell.condition, _world(cell), _runs(task), place)


def _runs(task: Task[Any]) -> int:
    """Runs of the network per call of the flow or the map."""
    return GUIDED_ROWS if task.guided else 1


def _metered_decoder(cell: Cell, instances: Instances, meter: Meter) -> Decoder | None:
    """The task's decoder, counted; None where samples are data."""
    if instances.task.decode is None:
        return None
    return meter.wrap("decoder", instances.place.network(instances.task.decode), key=_world(cell))


def _scored(
    cell: Cell, target: Target, meter: Meter, key: tuple[str, ...], decode: Decoder | None
) -> Decoder:
    """Strength times the reward of what a sample decodes to; decoder and reward counted apart."""

    def scored(x: Tensor, read: Condition) -> Tensor:
        score = target.reward.score_rows if isinstance(read, RowConditions) else target.reward
        return score(x, read) * target.strength

    counted, read = meter.wrap("reward", scored, key=key), target.sentence
    rewarded = finite_reward(lambda x: counted(x, read), cell.reward)
    return rewarded if decode is None else lambda x: rewarded(decode(x))


def _world(cell: Cell) -> tuple[str, ...]:
    """Names a task's callables in the table of FLOP prices; a notebook may change what it names."""
    return cell.task, cell.versions.get("task", ""), canonical(cell.task_params)


FIT_ROWS = 1 << 20
"""Sample indices of a fit's noise: more than any batch."""


def make_fit_problem(
    cell: Cell, instances: Instances, meter: Meter, group: WorkerGroup = ALONE
) -> FitProblem:
    """What the fit of a cell of part "fit" is handed; its noise is apart from that of sampling.

    Data that the task has are free; base samples in their place are the fit's work (`OwnData`),
    under each condition that the cell holds.
    """
    turn = Turn(cell.each[0].condition)
    parts = [_fit_part(one, instances, meter, turn, group) for one in cell.each]
    if len(parts) == 1:
        return parts[0]
    conditions = [one.condition for one in cell.each]
    return replace(parts[0], conditions=conditions, parts=tuple(parts))


def _fit_part(
    cell: Cell, instances: Instances, meter: Meter, turn: Turn, group: WorkerGroup
) -> FitProblem:
    """The problem of a fit under one condition; what it trains hears the one whose turn it is."""
    task, instances = instances.task, instances.under(cell)
    with suppress(UserError):  # reading or encoding data, once, belongs to no fit
        task.draw_data(1, torch.Generator().manual_seed(0))
    base = make_problem(cell, replace(instances, adapted=None), meter, range(FIT_ROWS))
    problem = replace(base, source=replace(base.source, task=f"{cell.task}/fit"))

    def trainable(rank: int = 0) -> MeteredModule:
        module = adapters.adapt(flow_maker(task)(), rank)
        keep_rounded(module, instances.place)
        key = (*_world(cell), f"rank {rank}", "trained")
        cost = _timing(task).cost(_runs(task))
        return metered_clone(module, meter, turn, key, cost, instances.place, group)

    own = task.own_samples
    given = partial(task.draw_data_under, cell.condition)
    draw = given if own is None else OwnData(problem, own, cell.batch, group).draw

    def data(n: int, step: int) -> Tensor:
        label = f"{cell.seed}/{cell.task}/data/{step}".encode()
        seed = int.from_bytes(hashlib.blake2b(label, digest_size=7).digest(), "big")
        return draw(n, torch.Generator().manual_seed(seed))

    return FitProblem(problem, [cell.condition], data, trainable, turn=turn, group=group)
