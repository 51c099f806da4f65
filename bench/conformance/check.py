"""On which tasks and with which rewards a plugin is tested."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.conformance.findings import Finding, Skipped, examine, one_line
from bench.conformance.laws import CHECKS as LAW_CHECKS
from bench.conformance.method_subject import MethodSubject, small
from bench.conformance.methods import CHECKS as METHOD_CHECKS
from bench.conformance.rewards import CHECKS as REWARD_CHECKS
from bench.conformance.rewards import RewardSubject
from bench.conformance.tasks import CHECKS as FLOW_CHECKS
from bench.conformance.tasks import TaskSubject
from bench.core import plugins
from bench.core.methods import Method
from bench.core.params import UserError, build, nearest, parse_name
from bench.core.tasks import Reward, Task
from bench.plan.binding import Bound, bind, lacking, make_reward, make_task

TASK_CHECKS = (*FLOW_CHECKS, *LAW_CHECKS)

CONTRACTS: dict[str, type[Any]] = {"method": Method, "reward": Reward, "task": Task}

TASKS = ("gmm-paper", "digits")
REWARDS = ("quadratic", "class-mixture")


def conform(
    kind: str, text: str, tasks: Sequence[str] = (), rewards: Sequence[str] = ()
) -> list[Finding]:
    """Contract tests of an installed plugin, `name` or `name:key=value`.

    Methods and rewards are tested on `tasks`; by default on a mixture, on the digits and on the
    tasks of the plugin's own package.
    """
    if kind not in CONTRACTS:
        raise UserError(f"cannot check a '{kind}': {nearest(kind, CONTRACTS)}")
    name, given = parse_name(text)
    cls = _load(kind, name)
    if kind == "task":
        return check_task(cls, build(cls.Params, given, name), text)
    if kind == "reward":
        worlds = tasks or (*TASKS, *_siblings("rewards", name, "tasks"))
        found = [check_reward(cls.create(**given), make_task(w)[1], w) for w in worlds]
    else:
        worlds = tasks or (*TASKS, *_siblings("methods", name, "tasks"))
        known = rewards or (*REWARDS, *_siblings("methods", name, "rewards"))
        bound = [bind(world, _first_compatible(world, known)) for world in worlds]
        found = [check_method(name, cls.create(**given), b, given) for b in bound]
    findings = list(itertools.chain.from_iterable(found))
    return findings + list(_untested(kind, findings))


def _load(kind: str, name: str) -> type[Any]:
    """The plugin's class; whatever goes wrong on the way is one sentence."""
    try:
        cls: Any = plugins.load(f"{kind}s", name)  # type: ignore[arg-type]
    except UserError:
        raise
    except Exception as error:  # whatever its module raises
        raise UserError(f"the {kind} '{name}' cannot be imported: {one_line(error)}") from error
    if isinstance(cls, type) and issubclass(cls, CONTRACTS[kind]):
        return cls
    raise UserError(f"'{name}' must name a subclass of bench.api.{kind.title()}")


def check_method(
    name: str, method: Method[Any], bound: Bound, pinned: Mapping[str, Any] | None = None
) -> list[Finding]:
    """All contract tests of a method on one task; a task that cannot run it is skipped."""

    def prepare() -> MethodSubject:
        reason = bound.refusal or lacking(method, bound.spec, bound.task)
        if reason is not None:
            raise Skipped(reason)
        subject = MethodSubject(name, small(method, pinned or {}), bound)
        try:
            subject.problem(subject.cell())
        except UserError as error:  # weights of the task that are not there
            raise Skipped(str(error)) from error
        return subject

    return examine(prepare, METHOD_CHECKS, bound.task_label)


def check_reward(reward: Reward[Any], task: Task[Any], where: str) -> list[Finding]:
    """All contract tests of a reward on one task; a task that it refuses is skipped."""

    def prepare() -> RewardSubject:
        reason = reward.compatible(task)
        if reason is not None:
            raise Skipped(reason)
        return RewardSubject(reward, task)

    return examine(prepare, REWARD_CHECKS, where)


def check_task(cls: type[Task[Any]], params: Any, where: str) -> list[Finding]:
    """All contract tests of a task."""
    return examine(lambda: TaskSubject(cls, params), TASK_CHECKS, where)


def _first_compatible(world: str, rewards: Sequence[str]) -> str:
    """The first reward that can score the task's samples."""
    _, task = make_task(world)
    fitting = (text for text in rewards if make_reward(text)[1].compatible(task) is None)
    return next(fitting, rewards[0])


def _siblings(group: plugins.Group, name: str, wanted: plugins.Group) -> list[str]:
    """Plugins of another group that a third-party plugin's own package brings."""
    point = plugins.points(group).get(name)
    owner = None if point is None else point.dist
    if owner is None or owner.name == "tiltbench":
        return []
    beside = plugins.points(wanted).items()
    return [other for other, p in beside if p.dist is not None and p.dist.name == owner.name]


def _untested(kind: str, found: list[Finding]) -> Iterator[Finding]:
    """A failure when every task was skipped: nothing was tested."""
    if all(finding.status == "skip" for finding in found):
        reasons = "; ".join(dict.fromkeys(f"{f.where}: {f.reason}" for f in found))
        yield Finding(
            "tested", "", "fail", f"no task could run this {kind} ({reasons}): name one with --task"
        )
