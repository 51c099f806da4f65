"""A task made of a velocity: what somebody brings who has trained a flow of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.api import (
    Condition,
    Interpolant,
    Linear,
    NoParams,
    Reference,
    Reward,
    Task,
    UserError,
    hears_condition,
)

ROWS = 3
"""Of the batch on which a velocity is tried."""

Velocity = Callable[..., Tensor]
Times = Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class FixedTimes:
    """A schedule of one length."""

    times: tuple[float, ...]

    def __call__(self, steps: int) -> list[float]:
        if steps != len(self.times) - 1:
            raise UserError(f"the flow has a schedule of {len(self.times) - 1} steps, not {steps}")
        return list(self.times)


class GivenFlow(nn.Module):
    """A flow from b(x, t), or b(x, t, condition) of a velocity that takes three arguments."""

    def __init__(
        self,
        velocity: Velocity,
        shape: tuple[int, ...],
        interpolant: Interpolant,
        times: Times | None,
    ) -> None:
        super().__init__()
        self.given, self.event_shape, self.interpolant = velocity, shape, interpolant
        self.times, self._hears = times, hears_condition(velocity, 2)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) for x (batch, *event_shape) and t (batch,)."""
        return self.given(x, t, condition) if self._hears else self.given(x, t)


class VelocityTask(Task[NoParams]):
    """Somebody's own velocity, with their data if there are any."""

    summary = "a flow of one's own"

    def __init__(
        self,
        flow: GivenFlow,
        name: str = "flow",
        points: Tensor | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        listed: Sequence[Condition] = (None,),
        pictures: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(NoParams())
        self.name, self.flow, self.event_shape = name, flow, flow.event_shape
        self.points, self.decode, self._listed, self._pictures = points, decode, listed, pictures
        of_the_law = () if points is None else ("reward-excess", "mmd2-tilted")
        vars(self)["metrics"] = ("reward", *of_the_law, "diversity")
        if points is not None and decode is None and isinstance(flow.given, nn.Module):
            self.trainable_flow = lambda: copy.deepcopy(flow)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Of what the decoder makes; tried on a batch of zeros."""
        if self.decode is None:
            return self.event_shape
        with torch.no_grad():
            return tuple(self.decode(torch.zeros(1, *self.event_shape)).shape[1:])

    def conditions(self, split: str) -> list[Condition]:
        return list(self._listed)

    def data(self, split: str) -> Tensor | None:
        """Every other row is for training, the rest for whatever is measured."""
        if self.points is None:
            return None
        return self.points[::2] if split == "train" else self.points[1::2]

    @torch.no_grad()
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        """The data, weighted by e^r: the tilted law as far as unconditional data know it."""
        x = self.data("reference")
        if x is None or condition is not None:
            return None
        weight = (strength * reward(x, condition).double()).softmax(0)
        return Reference(x, weight.float())

    def render(self, x: Tensor) -> Tensor | None:
        return None if self._pictures is None else self._pictures(x)


def from_velocity(
    fn_or_module: Velocity,
    shape: Sequence[int],
    data: Any = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    times: Times | Sequence[float] | None = None,
    *,
    name: str = "flow",
    conditions: Sequence[Condition] = (None,),
    interpolant: Interpolant | None = None,
    render: Callable[[Tensor], Tensor] | None = None,
) -> VelocityTask:
    """A task from a velocity b(x, t): x (batch, *shape), t (batch,), time 0 noise and 1 data.

    The samples solve dx/dt = b_t(x) from x ~ N(0, I), and b is that of alpha_t x0 + beta_t x1 for
    `interpolant` (default: (1 - t) x0 + t x1).  A module is copied as it is now and put into eval
    mode; with `data` it can be fine-tuned.

    data: (n, *data_shape), any array; gives fits something to train on and the report the tilted
    law's own reward.  decode: (n, *shape) -> (n, *data_shape), if the flow lives in latents.
    times: a schedule of the flow's own, `times(steps)` or one list from noise to 1; default:
    equally spaced.  conditions: what the velocity hears as its third argument, compared one by one.
    render: (n, *data_shape) -> uint8 (n, height, width, 3), for pictures in the report.

    Raises UserError if the velocity, the decoder or the data have other shapes.
    """
    event = tuple(int(size) for size in shape)
    given = fn_or_module
    if isinstance(given, nn.Module):
        given = copy.deepcopy(given).eval().requires_grad_(False)
    own = times if times is None or callable(times) else FixedTimes(tuple(map(float, times)))
    flow = GivenFlow(given, event, interpolant or Linear(), own)
    task = VelocityTask(flow, name, None, decode, tuple(conditions) or (None,), render)
    _tried(flow, task.conditions("report")[0])
    if data is None:
        return task
    points = _points(data, task.data_shape)
    return VelocityTask(flow, name, points, decode, tuple(conditions) or (None,), render)


@torch.no_grad()
def _tried(flow: GivenFlow, condition: Condition) -> None:
    """Raise UserError unless the velocity answers in the shape of its input."""
    x, t = torch.zeros(ROWS, *flow.event_shape), torch.linspace(0.25, 0.75, ROWS)
    try:
        found = flow.velocity(x, t, condition)
    except Exception as error:
        raise UserError(
            f"the velocity fails for x of shape {tuple(x.shape)} and t of shape ({ROWS},): "
            f"{type(error).__name__}: {error}"
        ) from error
    if tuple(found.shape) != tuple(x.shape):
        raise UserError(
            f"the velocity returned shape {tuple(found.shape)} for x of shape {tuple(x.shape)}"
        )


def _points(data: Any, shape: tuple[int, ...]) -> Tensor:
    """Data as float32 (n, *shape); UserError if they are not."""
    points = data if isinstance(data, Tensor) else torch.as_tensor(np.asarray(data))
    if tuple(points.shape[1:]) != shape or len(points) < 2:
        raise UserError(
            f"the data have shape {tuple(points.shape)}, and the samples {shape}: give (n, *shape)"
        )
    points = points.detach().cpu().float()
    if not bool(points.isfinite().all()):
        raise UserError("the data hold values that are not finite numbers")
    return points
