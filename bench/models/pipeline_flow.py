"""A network of a pipeline as the base flow of a task.

Everything above sees the linear interpolant; the network's own time, scale and output appear here
and nowhere else (`bench.core.native_paths`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.conditions import RowConditions
from bench.core.params import UserError
from bench.core.paths import Linear, expand
from bench.core.protocols import Condition
from bench.core.timing import Timing
from bench.models.pipeline_inputs import Call, Config, Features, Told, repeated
from bench.models.pipeline_prompts import Heard
from bench.models.pipeline_schedules import Schedule
from bench.models.pipelines import Family

SECOND = 2
"""Network rows of a row under classifier-free guidance: with and without the prompt."""
WHOLE = (0.0, 1.0)
NEAR = 1e-6
"""A time this near to an end of the interval is inside, in float32 as in float64."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: out = without + scale (with - without), inside an interval of t.

    Outside of it, and everywhere with a scale of at most 1 (as in the pipelines), the network runs
    once, with the prompt.  embedded: the scale is told to the network, which runs once.
    """

    scale: float = 1.0
    interval: tuple[float, float] = WHOLE
    embedded: bool = False

    @property
    def second(self) -> bool:
        """Whether there is a second row at any time."""
        return self.scale > 1 and not self.embedded

    @property
    def constant(self) -> bool:
        """Whether the rows are the same at all times."""
        return not self.second or self.interval == WHOLE

    def rows(self, t: float) -> int:
        """Network rows of one row at time t."""
        low, high = self.interval
        return SECOND if self.second and low - NEAR <= t <= high + NEAR else 1

    def inside(self, t: Tensor) -> Tensor:
        """(k,) indices of the rows that have a second one; t is (batch,)."""
        if self.constant:  # asking which would wait for the device
            return torch.arange(len(t), device=t.device)
        low, high = self.interval
        return ((t.double() >= low - NEAR) & (t.double() <= high + NEAR)).nonzero()[:, 0]


def guidance_of(
    family: Family,
    config: Config,
    scale: float | None,
    interval: tuple[float, float],
    negative: str,
) -> Guidance:
    """The guidance asked for, or the pipeline's own; UserError for what the network lacks."""
    if interval[0] > interval[1]:
        raise UserError(
            f"guidance begins at {interval[0]:g} and ends at {interval[1]:g}: let it end later"
        )
    if config.get("time_cond_proj_dim") is not None:
        raise UserError(
            "the network is told its guidance beside its time (LCM), which has no row yet: use the "
            "pipeline that it was distilled from"
        )
    if family.embedded and (negative or interval != WHOLE):
        raise UserError(
            "the network is told its guidance and runs once: leave negative, guided_from and "
            "guided_until out"
        )
    if family.embedded and not config.get("guidance_embeds") and scale is not None:
        raise UserError("the network was distilled to hear no guidance: leave guidance out")
    return Guidance(family.guidance if scale is None else scale, interval, family.embedded)


def timing_of_pipeline(schedule: Schedule, guidance: Guidance) -> Timing:
    """The scheduler's times, and the rows where they follow the time.

    Constant ones are left to `Task.guided`: to look rows up, the host waits for the device.
    """
    return Timing(schedule.times, None if guidance.constant else guidance.rows)


class PipelineFlow(nn.Module):
    """The network of a pipeline in linear coordinates; implements `Flow`.

    network: the module of diffusers.  call: how its family calls it.  schedule: its path and times.
    heard: what it is told of a condition.
    """

    hears_rows = True

    def __init__(
        self,
        network: Any,
        call: Call,
        schedule: Schedule,
        guidance: Guidance,
        heard: Heard,
        event_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.network, self.event_shape, self.interpolant = network, event_shape, Linear()
        self.schedule, self.guidance, self._heard, self._call = schedule, guidance, heard, call
        self.timing = timing_of_pipeline(schedule, guidance)

    def times(self, steps: int) -> list[float]:
        """The times of the pipeline's scheduler; Euler's method on them is what it does."""
        return self.schedule.times(steps)

    def rows(self, t: float) -> int:
        """Network rows per row of the velocity."""
        return self.guidance.rows(t)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), shape and dtype of x (batch, *event_shape); t is (batch,)."""
        if not isinstance(condition, RowConditions):
            return self._velocity(x, t, self._heard.of(condition, x.device))
        told = self._heard.of_rows(condition, x.device)
        if told is not None:
            return self._velocity(x, t, told)
        blocks = zip(condition.blocks(x), torch.split(t, list(condition.counts)), strict=True)
        return torch.cat([self.velocity(rows, times, c) for (rows, c), times in blocks])

    forward = velocity

    def _velocity(self, x: Tensor, t: Tensor, told: Told) -> Tensor:
        path = self.schedule.path
        state, time = (expand(path.scale(t), x) * x).to(x.dtype), path.time(t)
        if told.without is None:
            out = self._output(state, time, told.given)
        else:
            out = self._guided(state, time, self.guidance.inside(t), told.given, told.without)
        return path.velocity(out, x, t).to(x.dtype)

    def _guided(
        self, state: Tensor, time: Tensor, inside: Tensor, given: Features, without: Features
    ) -> Tensor:
        """One batch: every row with the prompt, then those inside the interval without it."""
        n, more = len(state), self.guidance.scale - 1
        bare = {name: v if len(v) == 1 else v[inside] for name, v in without.items()}
        both = _stacked(repeated(given, n), repeated(bare, len(inside)))
        out = self._output(torch.cat([state, state[inside]]), torch.cat([time, time[inside]]), both)
        told, untold = out[:n], out[n:]
        return told.index_add(0, inside, more * (told[inside] - untold))

    def _output(self, state: Tensor, time: Tensor, told: Features) -> Tensor:
        """The network's output, at its own precision inside and at the state's outside."""
        own = self.network.dtype
        features = {
            name: value.to(own) if value.is_floating_point() and name != "guidance" else value
            for name, value in repeated(told, len(state)).items()
        }
        return self._call(self.network, state.to(own), time, features).to(state.dtype)


def _stacked(first: Features, second: Features) -> Features:
    return {name: torch.cat([value, second[name]]) for name, value in first.items()}
