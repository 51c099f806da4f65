"""Asking Optuna: the study is rebuilt from what is told, asked once, and thrown away."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweeps.samplers import TrialSampler
from sweeps.space import Axis, Space, Values
from sweeps.trials import TrialState

GRID = "search_space"


@dataclass(frozen=True)
class Told:
    """A trial as Optuna is told of it."""

    params: Values
    state: TrialState
    values: tuple[float, ...] = ()
    intermediate: dict[int, float] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)


def distribution(axis: Axis) -> Any:
    """The axis as Optuna's distribution."""
    from optuna import distributions as d

    if axis.kind == "choice":
        return d.CategoricalDistribution(axis.choices)
    if axis.kind == "int":
        return d.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return d.FloatDistribution(axis.low, axis.high, log=axis.log)


def optuna_trial(space: Space, told: Told) -> Any:
    """A trial to be added to a study."""
    from optuna.trial import TrialState, create_trial

    axes = {axis.name: axis for axis in space.axes}
    return create_trial(
        state=TrialState[told.state.upper()],
        values=list(told.values) if told.state == "complete" else None,
        params=told.params,
        distributions={name: distribution(axes[name]) for name in told.params},
        intermediate_values=told.intermediate,
        system_attrs=dict(told.attrs),
    )


def optuna_study(
    space: Space, told: Sequence[Told], directions: Sequence[str], sampler: Any = None, **where: Any
) -> Any:
    """A study that holds the trials told, in order."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=list(directions), sampler=sampler, **where)
    for trial in told:
        study.add_trial(optuna_trial(space, trial))
    return study


def propose(
    space: Space,
    sampler: TrialSampler,
    seed: int,
    told: Sequence[Told],
    directions: Sequence[str],
    fixed: Mapping[str, Any],
) -> tuple[Values, dict[str, Any]]:
    """The next trial's values, rounded, and what the sampler notes down about it.

    `fixed` are the method's parameters that decide, besides the proposals, whether a conditional
    axis matters.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        full = [_with_grid(trial, sampler.grid(space)) for trial in told]
        study = optuna_study(space, full, directions, sampler.make(space, seed))
        trial = study.ask()
        values: Values = {}
        for axis in space.axes:
            if axis.active({**fixed, **values}):
                values[axis.name] = axis.rounded(_suggested(trial, axis))
        attrs = dict(study.trials[-1].system_attrs)
    attrs.pop(GRID, None)  # the same in every trial, and large
    return values, dict(json.loads(json.dumps(attrs)))


def _with_grid(told: Told, grid: dict[str, list[Any]]) -> Told:
    """A grid sampler looks for its whole grid in every trial of its own."""
    return replace(told, attrs={**told.attrs, GRID: grid}) if "grid_id" in told.attrs else told


def _suggested(trial: Any, axis: Axis) -> Any:
    if axis.kind == "choice":
        return trial.suggest_categorical(axis.name, axis.choices)
    if axis.kind == "int":
        return trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.log)
    return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.log)
