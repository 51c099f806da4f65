"""Shards of a cell: the batches of its samples, each kept as soon as it is made.

A cell that samples in several batches leaves each in the run's working folder, with the work it
took and the scalars it logged.  Whoever runs the cell again after a kill goes on behind the last of
them, on the same ledger: rows, FLOPs and seconds of what is kept are counted as if done now.  Noise
is indexed by sample, so what comes out is what one run without interruption gives, to the last bit.

A shard is believed only if its checksum holds and it was made under the same budget, on the same
kind of device and by the same versions; what decides samples beyond that is in the cell's id.  When
the cell's attempt is stored, its shards are removed (`bench.record.index`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from bench.core.cells import canonical
from bench.core.metering import Spent
from bench.core.params import UserError
from bench.core.place import HOST
from bench.core.problem import Problem
from bench.core.units import Kind, Role
from bench.core.values import Samples
from bench.record import layout
from bench.record.files import RunFiles
from bench.runner import memory

Logged = list[tuple[int, dict[str, float]]]
"""Scalars by step, as a method logs them."""


@dataclass(frozen=True)
class Shard:
    """Samples of one batch, what they cost, what was logged, and the peak of memory so far."""

    samples: Samples
    spent: Spent
    logged: Logged
    peak: int


@dataclass(frozen=True)
class Shards:
    """The shards of one cell.

    files: those of the run.  cell: its id.  made_by: all that decides samples beside the cell.
    A shard is named by the id of the cell that it is a part of, under the condition it was made.
    """

    files: RunFiles
    cell: str
    made_by: tuple[str, ...] = ()

    def once(self, part: str, problem: Problem, make: Callable[[Problem], Samples]) -> Samples:
        """The samples of a problem's rows: the kept ones, or made now and kept.

        part: the id of the cell that the rows belong to.  Where nothing can be written, as on a
        node that lacks the folder of the runs, nothing is kept: the samples are as good.
        """
        name = layout.shard(self.cell, f"{part}-{problem.rows.start:08d}-{problem.rows.stop:08d}")
        data = self.files.found(name)
        found = None if data is None else _unpacked(data, self.made_by)
        if found is not None:
            return _replayed(found, problem)
        made = _made(problem, make)
        with problem.meter.paused(), suppress(UserError):
            self.files.write(name, _packed(made, self.made_by))
        return made.samples


def _made(problem: Problem, make: Callable[[Problem], Samples]) -> Shard:
    logged: Logged = []
    tell = problem.on_log

    def hear(step: int, scalars: dict[str, float]) -> None:
        logged.append((step, {name: float(value) for name, value in scalars.items()}))
        if tell is not None:
            tell(step, scalars)

    before = problem.meter.spent()
    samples = make(replace(problem, on_log=hear))
    return Shard(samples, problem.meter.spent().since(before), logged, memory.peak())


def _replayed(shard: Shard, problem: Problem) -> Samples:
    """A kept shard's samples where the problem lies; its work and its scalars are told again."""
    problem.meter.take_over(shard.spent)
    memory.take_over(shard.peak)
    for step, scalars in shard.logged:
        problem.log(step, **scalars)
    samples = shard.samples
    x, weight, group = problem.place.here((samples.x, samples.log_weight, samples.group))
    return replace(samples, x=x, log_weight=weight, group=group)


# -- bytes ----------------------------------------------------------------------------------------


def _packed(shard: Shard, made_by: tuple[str, ...]) -> bytes:
    """The SHA-256 of what follows, then safetensors with everything but tensors as metadata."""
    from safetensors.torch import save

    samples = shard.samples
    tensors = {"x": samples.x, "log_weight": samples.log_weight, "group": samples.group}
    there = {n: v.detach().contiguous() for n, v in tensors.items() if v is not None}
    said = {
        "made_by": list(made_by),
        "log_z": samples.log_z,
        "info": samples.info,
        "rows": _by_name(shard.spent.rows),
        "flops": _by_name(shard.spent.flops),
        "seconds": shard.spent.seconds,
        "logged": shard.logged,
        "peak": shard.peak,
    }
    body: bytes = save(HOST.here(there), {"said": canonical(said)})
    return hashlib.sha256(body).digest() + body


def _unpacked(data: bytes, made_by: tuple[str, ...]) -> Shard | None:
    """What `_packed` made; None for bytes that are damaged or were made by something else."""
    from safetensors.torch import load

    size = hashlib.sha256().digest_size
    checksum, body = data[:size], data[size:]
    if hashlib.sha256(body).digest() != checksum:
        return None
    said = _metadata(body)
    if tuple(said["made_by"]) != made_by:
        return None
    tensors: dict[str, torch.Tensor] = load(body)
    weight, group = tensors.get("log_weight"), tensors.get("group")
    samples = Samples(tensors["x"], weight, group, said["log_z"], said["info"])
    spent = Spent(_by_pair(said["rows"]), _by_pair(said["flops"]), said["seconds"])
    logged = [(int(step), scalars) for step, scalars in said["logged"]]
    return Shard(samples, spent, logged, said["peak"])


def _metadata(body: bytes) -> dict[str, Any]:
    """The header of safetensors: 8 bytes of its length, then JSON."""
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    said: dict[str, Any] = json.loads(header["__metadata__"]["said"])
    return said


def _by_name(counts: Any) -> dict[str, float]:
    return {f"{role} {kind}": value for (role, kind), value in counts.items()}


def _by_pair(counts: dict[str, float]) -> dict[tuple[Role, Kind], float]:
    pairs = {name: cast(tuple[Role, Kind], tuple(name.split())) for name in counts}
    return {pairs[name]: value for name, value in counts.items()}
