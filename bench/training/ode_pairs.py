"""Solved pairs: noise, and where the teacher's own flow takes it, computed once and drawn again.

Whole jumps X_{0,1} are what one-step samples of a map are made of.  Regressed on the ends of the
teacher's trajectories (knowledge distillation, arXiv 2101.02388), they inherit no error from
shorter jumps, as they do in a consistency; the price is to solve the teacher beforehand.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from bench.core.devices import device_of, on_device
from bench.core.integrate import heun, integrate, uniform_grid
from bench.models.meta_flow_map import FlowNet, Known
from bench.training.draws import Draw


class Solved(NamedTuple):
    """Noise (n, *event), the ends of its trajectories, and what the teacher was told, (n,)."""

    noise: Tensor
    end: Tensor
    label: Tensor
    scale: Tensor

    @property
    def known(self) -> Known:
        """What the map is to be told."""
        return Known(self.label, self.scale)

    def pick(self, n: int, generator: torch.Generator) -> Self:
        """n random pairs."""
        rows = torch.randint(len(self.noise), (n,), generator=generator)
        return type(self)(*(part[rows] for part in self))

    def draw(self) -> Draw:
        """The pairs as whole jumps, from s = 0 to u = 1, of the map's slice t = 0."""
        zero = torch.zeros(len(self.noise))
        nothing = torch.zeros_like(self.noise)
        return Draw(self.end, nothing, zero, self.noise, s=zero, u=zero + 1, split=zero)


@torch.no_grad()
def solve(
    teacher: FlowNet,
    noise: Tensor,
    known: Known,
    steps: int,
    chunk: int = 2_000,
) -> Solved:
    """The ends of the teacher's trajectories by `steps` steps of Heun: 2 `steps` rows a pair."""
    assert known.label is not None
    scale = torch.ones(len(noise)) if known.scale is None else known.scale
    ends = []
    for start in range(0, len(noise), chunk):
        rows = slice(start, start + chunk)
        told = teacher.given(Known(known.label[rows], scale[rows]))
        with on_device(device_of(teacher)):
            ends.append(integrate(heun(told.velocity), noise[rows], uniform_grid(steps)).cpu())
    return Solved(noise, torch.cat(ends), known.label, scale)
