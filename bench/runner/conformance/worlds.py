"""On which tasks and with which rewards a plugin is tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from bench.core import plugins
from bench.core.conformance import (
    REWARD_CHECKS,
    TASK_CHECKS,
    Finding,
    RewardSubject,
    TaskSubject,
    examine,
)
from bench.core.contracts import Method, Reward, Task
from bench.core.params import UserError, build, nearest, parse_name
from bench.runner.cells import Bound, bind, lacking, make_reward, make_task
from bench.runner.conformance.methods import CHECKS as METHOD_CHECKS
from bench.runner.conformance.subject import MethodSubject, small

Kind = Literal["method", "reward", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CONTRACTS: dict[Kind, type[Any]] = {"method": Method, "reward": Reward, "task": Task}

TASKS = ("gmm-paper", "digits")
REWARDS = ("quadratic", "class-mixture")


def conform(
    kind: str, text: str, tasks: Sequence[str] = (), rewards: Sequence[str] = ()
) -> list[Finding]:
    """Contract tests of an installed plugin, `name` or `name:key=value`.

    Methods and rewards are tested on `tasks`; by default on a mixture, on the digits and on the
    tasks of the plugin's own package.
    """
    if kind not in KINDS:
        raise UserError(f"cannot check a '{kind}': {nearest(kind, KINDS)}")
    name, given = parse_name(text)
    cls = plugins.load(f"{kind}s", name)  # type: ignore[arg-type]
    if not (isinstance(cls, type) and issubclass(cls, CONTRACTS[kind])):
        raise UserError(
            f"the entry point '{name}' must name a subclass of bench.api.{kind.title()}"
        )
    if kind == "task":
        return examine(TaskSubject(cls, build(cls.Params, given, name)), TASK_CHECKS, text)
    if kind == "reward":
        worlds = tasks or (*TASKS, *_siblings("rewards", name, "tasks"))
        found = [f for world in worlds for f in check_reward(cls.create(**given), world)]
    else:
        worlds = tasks or (*TASKS, *_siblings("methods", name, "tasks"))
        fitting = rewards or (*REWARDS, *_siblings("methods", name, "rewards"))
        pairs = [(world, _first_compatible(world, fitting)) for world in worlds]
        found = [
            f
            for world, reward in pairs
            for f in check_method(name, cls.create(**given), bind(world, reward), given)
        ]
    return found + list(_untested(kind, found))


def check_method(
    name: str, method: Method[Any], bound: Bound, pinned: Mapping[str, Any] | None = None
) -> list[Finding]:
    """All contract tests of a method on one task; a task that cannot run it is skipped."""
    reason = bound.refusal or lacking(method, bound.spec, bound.task)
    if reason is None:
        subject = MethodSubject(name, small(method, pinned or {}), bound)
        try:
            subject.problem(subject.cell())
        except UserError as error:  # weights of the task that are not there
            reason = str(error)
    if reason is not None:
        return [Finding("samples", bound.task_label, "skip", reason)]
    return examine(subject, METHOD_CHECKS, bound.task_label)


def check_reward(reward: Reward[Any], world: str) -> list[Finding]:
    """All contract tests of a reward on one task; a task that it refuses is skipped."""
    _, task = make_task(world)
    reason = reward.compatible(task)
    if reason is not None:
        return [Finding("score", world, "skip", reason)]
    return examine(RewardSubject(reward, task), REWARD_CHECKS, world)


def _first_compatible(world: str, rewards: Sequence[str]) -> str:
    """The first reward that can score the task's samples."""
    _, task = make_task(world)
    fitting = (text for text in rewards if make_reward(text)[1].compatible(task) is None)
    return next(fitting, rewards[0])


def _siblings(group: plugins.Group, name: str, wanted: plugins.Group) -> list[str]:
    """Plugins of another group that a third-party plugin's own package brings."""
    owner = plugins.points(group)[name].dist
    if owner is None or owner.name == "tiltbench":
        return []
    return [p.name for p in plugins.describe(wanted) if p.distribution == owner.name]


def _untested(kind: str, found: list[Finding]) -> Iterator[Finding]:
    """A failure when every task was skipped: nothing was tested."""
    if all(finding.status == "skip" for finding in found):
        reasons = "; ".join(dict.fromkeys(f"{f.where}: {f.reason}" for f in found))
        yield Finding(
            "tested", "", "fail", f"no task could run this {kind} ({reasons}): name one with --task"
        )
