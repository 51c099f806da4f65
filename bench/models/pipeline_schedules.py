"""A scheduler of diffusers as times of a flow: those of the folder, or of one in its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch

from bench.core.native_paths import NativePath
from bench.core.params import UserError
from bench.models.pipeline_steppers import FILE, FIX, deviation, stepper_of

Arguments = Callable[[int], Mapping[str, Any]]
"""What a pipeline hands to `set_timesteps` beside the number of steps, given that number."""

CLOSE = 1e-4
"""Relative gap to the scheduler's own first state; a spacing that starts elsewhere makes 2e-3."""

REPLACEMENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": (
        "DDIMScheduler",
        {"clip_sample": False, "thresholding": False, "set_alpha_to_one": True},
    ),
    "euler": (
        "EulerDiscreteScheduler",
        {"timestep_spacing": "leading", "final_sigmas_type": "zero", "timestep_type": "discrete"},
    ),
    "flow-euler": (
        "FlowMatchEulerDiscreteScheduler",
        {"stochastic_sampling": False, "invert_sigmas": False},
    ),
    "edm-euler": ("EDMEulerScheduler", {"final_sigmas_type": "zero"}),
}
"""Schedulers that may stand in for the folder's, made from its settings and these."""


class Schedule:
    """A scheduler in linear coordinates: its path, and its times for a number of steps."""

    def __init__(self, scheduler: Any, path: NativePath, arguments: Arguments) -> None:
        self.path = path
        self._scheduler, self._arguments = scheduler, arguments
        self._stepper = stepper_of(scheduler)
        self._known: dict[int, list[float]] = {}

    def times(self, steps: int) -> list[float]:
        """steps + 1 increasing times, the first of which may be above 0; the last is 1.

        Raises UserError where Euler's method on them is not what the scheduler does.
        """
        if steps not in self._known:
            self._known[steps] = self._read(steps)
        return list(self._known[steps])

    def _read(self, steps: int) -> list[float]:
        try:
            self._scheduler.set_timesteps(steps, **self._arguments(steps))
            times = self._stepper.nodes(self._scheduler)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise UserError(
                f"{type(self._scheduler).__name__} has no {steps} steps ({error}): use fewer"
            ) from error
        self._require_own_start(times[0])
        self._require_own_times(times)
        return times

    def _require_own_start(self, t: float) -> None:
        own = self._stepper.start(self._scheduler, t)
        if abs(own / deviation(t) - 1) > CLOSE:
            spacing = self._scheduler.config.get("timestep_spacing")
            raise UserError(
                f"{type(self._scheduler).__name__} with timestep_spacing '{spacing}' starts from "
                "noise that its first time does not have: set timestep_spacing to 'leading' in "
                f"{FILE}, or use scheduler=ddim"
            )

    def _require_own_times(self, times: list[float]) -> None:
        """Times rise to 1, and at each the network is told what the pipeline tells it."""
        as_told = all(a < b for a, b in pairwise(times)) and times[-1] == 1
        own, told = self._scheduler.timesteps.double(), torch.tensor(times[:-1]).double()
        if as_told and math.isfinite(self._stepper.within):
            as_told = float((self.path.time(told) - own).abs().max()) < self._stepper.within
        if not as_told:
            raise UserError(
                f"the steps of {type(self._scheduler).__name__} with these settings cannot be "
                f"stated as times of a flow: {FIX}"
            )


def replaced(config: Mapping[str, Any], name: str) -> Any:
    """The scheduler that stands in for the folder's; a flow's shift keeps its value.

    A network of Karras sigmas is told other times than one of whole times, which its weights do not
    show: only `sigma_data` in the folder's settings does.
    """
    import diffusers

    cls, settings = REPLACEMENTS[name]
    if ("sigma_data" in config) != (name == "edm-euler"):
        has = "has" if "sigma_data" in config else "has no"
        raise UserError(f"{FILE} {has} sigma_data, so that scheduler={name} is not its own: {FIX}")
    moved = {"shift": config["flow_shift"]} if "flow_shift" in config else {}
    return getattr(diffusers, cls).from_config(dict(config), **{**moved, **settings})
