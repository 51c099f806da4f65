"""Schedulers of diffusers whose steps are Euler's method of a flow: their path and their times.

In linear coordinates (`bench.core.native_paths`) DDIM with eta = 0, EulerDiscrete and
FlowMatchEuler are x + (u - t) b.  Everything that would make them something else is refused, with
the setting that has to change: what is not stated here would be another sampler than the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from bench.core.native_paths import (
    Between,
    DiscretePath,
    FlowPath,
    NativePath,
    Output,
    norm,
)
from bench.core.params import UserError

Arguments = Callable[[int], Mapping[str, Any]]
"""What a pipeline hands to `set_timesteps` beside the number of steps, given that number."""

OUTPUT: Mapping[str, Output] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}
FILE = "scheduler/scheduler_config.json"
FIX = "use scheduler=ddim or scheduler=euler, for a flow model such as Sana scheduler=flow-euler"
CLOSE = 1e-4
"""Relative gap to the scheduler's own first state; a spacing that starts elsewhere makes 2e-3."""
WITHIN = 0.05
"""Gap to the scheduler's own times, of 1,000: it rounds where it works in float32."""


@dataclass(frozen=True)
class Stepper:
    """A scheduler class: where its nodes lie, and which settings leave Euler's method.

    nodes: steps after `set_timesteps` -> linear times, ends included.
    start: the deviation of its first state in linear coordinates, at the linear time t0.
    discrete: for networks that were trained at whole times, or for flow matching.
    plain: the only value of a setting under which a step is Euler's.
    """

    nodes: Callable[[Any], list[float]]
    start: Callable[[Any, float], float]
    discrete: bool
    plain: Mapping[str, Any] = field(default_factory=dict)


def _flow_nodes(scheduler: Any) -> list[float]:
    return [1 - sigma for sigma in scheduler.sigmas.tolist()]


def _euler_nodes(scheduler: Any) -> list[float]:
    return [1 / (1 + sigma) for sigma in scheduler.sigmas.tolist()]


def _ddim_nodes(scheduler: Any) -> list[float]:
    """DDIM steps from tau to tau - N // K, whatever its next time is: both must agree."""
    taus, trained = scheduler.timesteps.tolist(), scheduler.config.num_train_timesteps
    after = [tau - trained // len(taus) for tau in taus]
    if after[:-1] != taus[1:]:
        spacing = scheduler.config.timestep_spacing
        raise UserError(
            f"DDIM with timestep_spacing '{spacing}' and {len(taus)} steps does not step to its "
            f"own next time: use a number of steps that divides {trained}, or set "
            f"timestep_spacing to 'leading' in {FILE}"
        )
    table = scheduler.alphas_cumprod.double()
    last = table[after[-1]] if after[-1] >= 0 else scheduler.final_alpha_cumprod.double()
    signal = torch.stack([*(table[tau] for tau in taus), last])
    times: list[float] = (signal.sqrt() / (signal.sqrt() + (1 - signal).sqrt())).tolist()
    return times


STEPPERS: Mapping[str, Stepper] = {
    "FlowMatchEulerDiscreteScheduler": Stepper(
        _flow_nodes,
        lambda _, t: _norm(t),
        False,
        {"stochastic_sampling": False, "invert_sigmas": False},
    ),
    "DDIMScheduler": Stepper(
        _ddim_nodes,
        lambda scheduler, t: float(scheduler.init_noise_sigma) * _norm(t),
        True,
        {"clip_sample": False, "thresholding": False, "set_alpha_to_one": True},
    ),
    "EulerDiscreteScheduler": Stepper(
        _euler_nodes,
        lambda scheduler, t: float(scheduler.init_noise_sigma) * t,
        True,
        {"timestep_type": "discrete", "final_sigmas_type": "zero"},
    ),
}

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
        if abs(own / _norm(t) - 1) > CLOSE:
            raise UserError(
                f"{type(self._scheduler).__name__} with timestep_spacing "
                f"'{self._scheduler.config.timestep_spacing}' starts from noise that its first "
                f"time does not have: set timestep_spacing to 'leading' in {FILE}, or use "
                "scheduler=ddim"
            )

    def _require_own_times(self, times: list[float]) -> None:
        """Times rise to 1, and at each the network is told what the pipeline tells it."""
        as_told = all(a < b for a, b in pairwise(times)) and times[-1] == 1
        own, told = self._scheduler.timesteps.double(), torch.tensor(times[:-1]).double()
        if isinstance(self.path, DiscretePath):
            as_told = as_told and float((self.path.time(told) - own).abs().max()) < WITHIN
        if not as_told:
            raise UserError(
                f"the steps of {type(self._scheduler).__name__} with these settings cannot be "
                f"stated as times of a flow: {FIX}"
            )


def stepper_of(scheduler: Any) -> Stepper:
    """How a scheduler steps, or a UserError that says what would make its steps Euler's."""
    name = type(scheduler).__name__
    if name not in STEPPERS:
        raise UserError(
            f"{name} takes steps that are not Euler's method of a flow (several stages, memory or "
            f"noise), so that they cannot be stated: {FIX}"
        )
    for setting, plain in STEPPERS[name].plain.items():
        given = scheduler.config.get(setting, plain)
        if given != plain:
            raise UserError(
                f"{name} with {setting}={given} does not take the steps of a flow: set {setting} "
                f"to {str(plain).lower()} in {FILE}"
            )
    return STEPPERS[name]


def replaced(config: Mapping[str, Any], name: str) -> Any:
    """The scheduler that stands in for the folder's; a flow's shift keeps its value."""
    import diffusers

    cls, settings = REPLACEMENTS[name]
    moved = {"shift": config["flow_shift"]} if "flow_shift" in config else {}
    return getattr(diffusers, cls).from_config(dict(config), **{**moved, **settings})


def path_of(scheduler: Any, unit: float | None) -> NativePath:
    """The path of a network of flow matching with a unit of time, or (None) of whole times."""
    name, config = type(scheduler).__name__, scheduler.config
    if stepper_of(scheduler).discrete != (unit is None):
        kind = "flow matching" if unit is not None else "discrete diffusion"
        raise UserError(f"{name} does not step a network of {kind}: {FIX}")
    if unit is not None:
        return FlowPath(unit)
    predicted = config.get("prediction_type", "epsilon")
    if predicted not in OUTPUT:
        raise UserError(
            f"the prediction_type '{predicted}' in {FILE} is none of {', '.join(OUTPUT)}: correct "
            "it"
        )
    return DiscretePath(scheduler.alphas_cumprod, OUTPUT[predicted], _between(config))


def _between(config: Mapping[str, Any]) -> Between:
    """How a scheduler reads its table between two whole times."""
    logarithmic = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    if any(config.get(name) for name in logarithmic):
        return "log-sigma"
    return "sigma" if "interpolation_type" in config else "time"


def _norm(t: float) -> float:
    return float(norm(torch.tensor(t, dtype=torch.float64)))
