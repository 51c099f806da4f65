"""A task with a reward, from their names: what can be said of the pair before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.core import plugins
from bench.core.methods import Method, Need
from bench.core.params import UserError, changed, format_name, parse_name, range_of
from bench.core.tasks import Reward, Task
from bench.core.values import ProblemSpec

STRENGTH = "strength"


@dataclass(frozen=True)
class Bound:
    """A task with a reward: instances, labels and the spec that predictions need."""

    task: Task[Any]
    reward: Reward[Any]
    strength: float
    task_label: str
    reward_label: str
    spec: ProblemSpec
    refusal: str | None


def make_task(text: str) -> tuple[str, Task[Any]]:
    """A task from `name:key=value`."""
    name, values = parse_name(text)
    return name, plugins.load("tasks", name).create(**values)


def make_reward(text: str) -> tuple[str, Reward[Any], float]:
    """A reward and its strength from `name:strength=5,key=value`."""
    name, values = parse_name(text)
    strength = values.pop(STRENGTH, 1.0)
    if not isinstance(strength, int | float):
        raise UserError(f"{name}: strength must be a number, not '{strength}'")
    return name, plugins.load("rewards", name).create(**values), float(strength)


def label_of(name: str, reward: Reward[Any]) -> str:
    """The reward with every parameter that its numbers depend on and a reader cannot know.

    Those that it always says, and those that differ from their defaults.
    """
    always: dict[str, Any] = getattr(reward, "labelled", dict)()
    decisive = {
        key: value
        for key, value in changed(reward.params).items()
        if range_of(type(reward.params), key).decides
    }
    return format_name(name, always | decisive)


def declares(task: Task[Any], name: str) -> bool:
    """Whether a task has an attribute other than None, without computing a lazy one."""
    own: Any = vars(task).get(name, getattr(type(task), name, None))
    return own is not None


def bind(task_text: str, reward_text: str) -> Bound:
    """Instances of a task and a reward, and what follows from the pair; loads no weights."""
    _, task = make_task(task_text)
    name, reward, strength = make_reward(reward_text)
    refusal = reward.compatible(task)
    oracle = None if refusal else task.oracle(reward, strength)
    spec = ProblemSpec(
        event_shape=tuple(task.event_shape),
        reward_differentiable=reward.differentiable,
        has_decoder=declares(task, "decode"),
        has_flow_map=declares(task, "flow_map"),
        has_posterior=declares(task, "posterior"),
        has_oracle=oracle is not None,
        trainable=declares(task, "trainable_flow"),
        guided=task.guided,
        timing=task.timing(),
        own_samples=task.own_samples,
        highest=None if refusal else _highest(task, reward, strength),
    )
    label = format_name(name, changed(reward.params))
    return Bound(task, reward, strength, task_text, label, spec, refusal)


def _highest(task: Task[Any], reward: Reward[Any], strength: float) -> float | None:
    """The largest value of strength * reward; none is known of a score turned around."""
    highest = reward.highest(task)
    return None if highest is None or strength < 0 else strength * highest


def lacking(method: Method[Any], spec: ProblemSpec, task: Task[Any]) -> str | None:
    """Why a method cannot run here, or None."""
    has = {
        Need.REWARD_GRADIENT: spec.reward_differentiable,
        Need.FLOW_MAP: spec.has_flow_map,
        Need.POSTERIOR: spec.has_posterior,
        Need.PATHWISE_POSTERIOR: spec.has_posterior
        and bool(getattr(task.posterior, "pathwise", 0)),
        Need.ORACLE: spec.has_oracle,
        Need.FIT: spec.trainable,
        Need.DATA_VARIANCE: declares(task, "data_variance"),
    }
    missing = [need.value for need in sorted(method.needs) if not has[need]]
    return f"needs {' and '.join(missing)}" if missing else None
