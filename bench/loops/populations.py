"""Populations of particles, from the engine to samples: who is returned of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.core.choices import named_param
from bench.core.params import UserError
from bench.core.problem import Problem
from bench.core.values import Samples
from bench.loops.blocks import row_blocks
from bench.loops.particles import Cloud, ParticleDesign, evolve, uniforms
from bench.loops.resampling import at_quantiles


def _drawn(problem: Problem, cloud: Cloud) -> Samples:
    index = at_quantiles(cloud.log_weight, uniforms(problem, "draw", 0, 1))
    return Samples(cloud.chosen(index).denoised[:, 0])


def _highest(_: Problem, cloud: Cloud) -> Samples:
    index = cloud.path[-1].argmax(1, keepdim=True)
    return Samples(cloud.chosen(index).denoised[:, 0])


def _everybody(_: Problem, cloud: Cloud) -> Samples:
    groups = torch.arange(len(cloud.x), device=cloud.x.device)
    return Samples(
        cloud.denoised.flatten(0, 1),
        cloud.total_log_weight.flatten().to(cloud.x.dtype),
        groups.repeat_interleave(cloud.x.shape[1]),
    )


@dataclass(frozen=True)
class PopulationOutput:
    """What is returned of a finished population; `whole` if that is every particle."""

    summary: str
    pick: Callable[[Problem, Cloud], Samples]
    whole: bool = False


OUTPUTS: Mapping[str, PopulationOutput] = {
    "draw": PopulationOutput("a particle drawn by weight", _drawn),
    "argmax": PopulationOutput("the particle of highest reward", _highest),
    "population": PopulationOutput("all of them with their weights", _everybody, whole=True),
}


def whole_populations(rows: range, size: int) -> list[tuple[range, int]]:
    """Populations that make the samples `rows`: ranges of their indices, each with its size.

    The last population has what is left over.
    """
    if rows.start % size:
        raise UserError(
            f"populations are returned whole: the batch size must be a multiple of their size, "
            f"{size}"
        )
    first, (whole, left) = rows.start // size, divmod(len(rows), size)
    parts = [(range(first, first + whole), size), (range(first + whole, first + whole + 1), left)]
    return [(indices, members) for indices, members in parts if indices and members]


def _populations(
    problem: Problem, particles: int, output: PopulationOutput
) -> list[tuple[range, int]]:
    if not output.whole:
        return [(problem.rows, particles)]
    return whole_populations(problem.rows, particles)


@torch.no_grad()
def sample_populations(
    problem: Problem, design: ParticleDesign, output: PopulationOutput
) -> tuple[Samples, Tensor]:
    """Evolve populations and pick n samples; also log Z_hat of every population."""
    parts, estimates = [], []
    for populations, size in _populations(problem, design.particles, output):
        sized = replace(design, particles=size, founders=min(design.founders, size))
        for rows in row_blocks(populations, size * design.draws):
            part = problem.for_rows(rows)
            cloud, info = evolve(part, sized)
            parts.append(replace(output.pick(part, cloud), info=info))
            estimates.append(cloud.total_log_weight.logsumexp(1) - math.log(size))
    return Samples.joined(parts), torch.cat(estimates)


def output_param() -> Any:
    """The field of Params that says what is returned of a population."""
    return named_param("population", OUTPUTS, tunable=False)
