"""A network of a pipeline as the base flow of a task, and its decoder.

Everything above sees the linear interpolant; the network's own time, scale and output appear here
and nowhere else (`bench.core.native_paths`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.params import UserError
from bench.core.paths import Linear, expand
from bench.core.protocols import Condition
from bench.models.pipeline_schedules import Schedule
from bench.models.pipelines import Call, Features, Told

SECOND = 2
"""Network rows of a row under classifier-free guidance: with and without the prompt."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: out = without + scale (with - without), inside an interval of t.

    Outside of it, and everywhere with a scale of at most 1 (as in the pipelines), the network runs
    once, with the prompt.  embedded: the scale is told to the network, which runs once.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    embedded: bool = False

    @property
    def second(self) -> bool:
        """Whether there is a second row at any time."""
        return self.scale > 1 and not self.embedded

    def rows(self, t: float) -> int:
        """Network rows of one row at time t."""
        low, high = self.interval
        return SECOND if self.second and low <= t <= high else 1

    def where(self, t: Tensor) -> Tensor:
        """(batch,) which rows have a second one."""
        low, high = self.interval
        return (t >= low) & (t <= high)

    @property
    def everywhere(self) -> bool:
        """Whether the interval leaves nothing out."""
        return self.interval[0] <= 0 and self.interval[1] >= 1


class PipelineFlow(nn.Module):
    """The network of a pipeline in linear coordinates; implements `Flow`.

    network: the module of diffusers.  call: how its family calls it.  schedule: its path and times.
    tell: conditions -> what the network hears of each; asked again only for what is new.
    """

    def __init__(
        self,
        network: Any,
        call: Call,
        schedule: Schedule,
        guidance: Guidance,
        tell: Callable[[Iterable[Condition]], dict[Condition, Told]],
        event_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.network, self.event_shape, self.interpolant = network, event_shape, Linear()
        self.schedule, self.guidance = schedule, guidance
        self._call, self._tell = call, tell
        self._told: dict[Condition, Told] = {}

    def times(self, steps: int) -> list[float]:
        """The times of the pipeline's scheduler; Euler's method on them is what it does."""
        return self.schedule.times(steps)

    def rows(self, t: float) -> int:
        """Network rows per row of the velocity."""
        return self.guidance.rows(t)

    def native(self, y: Tensor, t: float) -> Tensor:
        """The pipeline's own latents of a state y at time t."""
        return y * self.schedule.path.scale(torch.full((1,), t, dtype=torch.float64)).item()

    def hear(self, conditions: Iterable[Condition]) -> None:
        """Work out, at once, what the network is told of conditions."""
        new = [c for c in dict.fromkeys(conditions) if c not in self._told]
        if new:
            self._told |= self._tell(new)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), shape and dtype of x (batch, *event_shape); t is (batch,)."""
        if condition is None:
            raise UserError("the network of a pipeline needs a condition: give a prompt or a label")
        told, path = self._features(condition, x.device), self.schedule.path
        state, time = (expand(path.scale(t), x) * x).to(x.dtype), path.time(t)
        if told.without is None or not self.guidance.second:
            out = self._output(state, time, told.given)
        else:
            out = self._guided(state, time, t, told.given, told.without)
        return path.velocity(out.to(x.dtype), x, t).to(x.dtype)

    forward = velocity

    def _guided(
        self, state: Tensor, time: Tensor, t: Tensor, given: Features, without: Features
    ) -> Tensor:
        """One batch: every row with the prompt, then those that are guided without it."""
        n, scale = len(state), self.guidance.scale
        # which rows are inside is asked only where some may be outside: it waits for the device
        which = torch.arange(n, device=state.device)
        if not self.guidance.everywhere:
            which = which[self.guidance.where(t)]
        both = _stacked(_repeated(given, n), _repeated(without, len(which)))
        out = self._output(torch.cat([state, state[which]]), torch.cat([time, time[which]]), both)
        told, bare = out[:n], out[n:]
        return told.index_add(0, which, (scale - 1) * (told[which] - bare))

    def _output(self, state: Tensor, time: Tensor, told: Features) -> Tensor:
        """The network's output, at its own precision inside and at the state's outside."""
        own = self.network.dtype
        heard = {
            name: value.to(own) if value.is_floating_point() and name != "guidance" else value
            for name, value in _repeated(told, len(state)).items()
        }
        return self._call(self.network, state.to(own), time, heard).to(state.dtype)

    def _features(self, condition: Condition, device: torch.device) -> Told:
        """What was worked out for a condition, moved once to where it is heard."""
        self.hear([condition])
        told = self._told[condition]
        if next(iter(told.given.values())).device != device:
            without = told.without and _moved(told.without, device)
            told = self._told[condition] = Told(_moved(told.given, device), without)
        return told


def _moved(features: Features, device: torch.device) -> Features:
    return {name: value.to(device) for name, value in features.items()}


def _repeated(features: Features, rows: int) -> Features:
    """(1, ...) -> (rows, ...)."""
    return {name: value.expand(rows, *value.shape[1:]) for name, value in features.items()}


def _stacked(first: Features, second: Features) -> Features:
    return {name: torch.cat([value, second[name]]) for name, value in first.items()}


class LatentDecoder(nn.Module):
    """Pictures (n, 3, height, width), about [-1, 1], of latents: decode(z / scale + shift).

    scale, shift: numbers, or tensors (1, channels, 1, 1).  dtype: of the decoder inside; the
    pictures have the latents'.  rows: latents that are decoded at once.
    """

    def __init__(
        self,
        vae: Any,
        scale: float | Tensor,
        shift: float | Tensor = 0.0,
        dtype: torch.dtype = torch.float32,
        rows: int = 8,
    ) -> None:
        super().__init__()
        self.vae, self.dtype, self.rows = vae.to(dtype), dtype, rows
        self.register_buffer("scale", torch.as_tensor(scale), persistent=False)
        self.register_buffer("shift", torch.as_tensor(shift), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Differentiable; piece by piece."""
        return torch.cat([self._piece(piece) for piece in z.split(self.rows)])

    def _piece(self, z: Tensor) -> Tensor:
        inside = (z / self.scale + self.shift).to(self.dtype)
        picture: Tensor = self.vae.decode(inside, return_dict=False)[0]
        return picture.to(z.dtype)
