"""Schedulers of diffusers whose steps are Euler's method of a flow, and where their networks live.

In linear coordinates (`bench.core.native_paths`) DDIM with eta = 0, EulerDiscrete, EDMEuler and
FlowMatchEuler are x + (u - t) b.  Everything that would make them something else is refused, with
the setting that has to change: what is not stated here would be another sampler than the user's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from bench.core.native_paths import (
    Between,
    DiscretePath,
    FlowPath,
    KarrasPath,
    NativePath,
    Output,
    norm,
)
from bench.core.params import UserError

OUTPUT: Mapping[str, Output] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}
FLOW, DIFFUSION, KARRAS = "flow matching", "discrete diffusion", "Karras sigmas"
FILE = "scheduler/scheduler_config.json"
FIX = (
    "use scheduler=ddim or scheduler=euler, for a flow model such as Sana scheduler=flow-euler, "
    "for one with a sigma_data such as Playground v2.5 scheduler=edm-euler"
)
Known = TypeVar("Known")


@dataclass(frozen=True)
class Stepper:
    """A scheduler class: where its nodes lie, and which settings leave Euler's method.

    nodes: steps after `set_timesteps` -> linear times, ends included.
    start: the deviation of its first state in linear coordinates, at the linear time t0.
    path: (scheduler, unit of time) -> where a network that it steps lives; see `path_of`.
    of: which networks those are.
    plain: the only value of a setting under which a step is Euler's.
    within: gap to the scheduler's own times; it rounds where it works in float32.
    """

    nodes: Callable[[Any], list[float]]
    start: Callable[[Any, float], float]
    path: Callable[[Any, float | None], NativePath]
    of: str
    plain: Mapping[str, Any] = field(default_factory=dict)
    within: float = math.inf


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


# -- where the network of a scheduler lives --------------------------------------------------------


def _flow_path(_scheduler: Any, unit: float | None) -> NativePath:
    return FlowPath(unit or 1.0)


def _discrete_path(scheduler: Any, _unit: float | None) -> NativePath:
    return DiscretePath(
        scheduler.alphas_cumprod, _predicted(scheduler, OUTPUT), _between(scheduler.config)
    )


def _karras_path(scheduler: Any, _unit: float | None) -> NativePath:
    """What EDM calls epsilon is F, and its v is -F."""
    signs = {"epsilon": 1.0, "v_prediction": -1.0}
    return KarrasPath(scheduler.config.sigma_data, _predicted(scheduler, signs))


def _predicted(scheduler: Any, known: Mapping[str, Known]) -> Known:
    """What the network's output is, by the `prediction_type`."""
    predicted = scheduler.config.get("prediction_type", "epsilon")
    if predicted not in known:
        raise UserError(
            f"the prediction_type '{predicted}' in {FILE} is none of {', '.join(known)}: correct it"
        )
    return known[predicted]


def _between(config: Mapping[str, Any]) -> Between:
    """How a scheduler reads its table between two whole times."""
    logarithmic = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
    if any(config.get(name) for name in logarithmic):
        return "log-sigma"
    return "sigma" if "interpolation_type" in config else "time"


# -- the table -------------------------------------------------------------------------------------


STEPPERS: Mapping[str, Stepper] = {
    "FlowMatchEulerDiscreteScheduler": Stepper(
        _flow_nodes,
        lambda _, t: deviation(t),
        _flow_path,
        FLOW,
        {"stochastic_sampling": False, "invert_sigmas": False},
    ),
    "DDIMScheduler": Stepper(
        _ddim_nodes,
        lambda scheduler, t: float(scheduler.init_noise_sigma) * deviation(t),
        _discrete_path,
        DIFFUSION,
        {"clip_sample": False, "thresholding": False, "set_alpha_to_one": True},
        within=0.05,
    ),
    "EulerDiscreteScheduler": Stepper(
        _euler_nodes,
        lambda scheduler, t: float(scheduler.init_noise_sigma) * t,
        _discrete_path,
        DIFFUSION,
        {"timestep_type": "discrete", "final_sigmas_type": "zero"},
        within=0.05,
    ),
    "EDMEulerScheduler": Stepper(
        _euler_nodes,
        lambda scheduler, t: float(scheduler.init_noise_sigma) * t,
        _karras_path,
        KARRAS,
        {"final_sigmas_type": "zero"},
        within=1e-4,
    ),
}


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


def path_of(scheduler: Any, unit: float | None) -> NativePath:
    """The path of a network of flow matching with a unit of time, or (None) of another kind."""
    stepper = stepper_of(scheduler)
    if (stepper.of == FLOW) != (unit is not None):
        kind = FLOW if unit is not None else DIFFUSION
        raise UserError(f"{type(scheduler).__name__} does not step a network of {kind}: {FIX}")
    return stepper.path(scheduler, unit)


def deviation(t: float) -> float:
    """Of y at t where that of the data is 1."""
    return float(norm(torch.tensor(t, dtype=torch.float64)))
