"""Cells: the unit that is planned, scheduled, cached and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bench.core import plugins
from bench.core.contracts import Method, Need, ProblemSpec, Reward, Task
from bench.core.matching import Cost, Match, match
from bench.core.params import UserError, changed, format_name, parse_name
from bench.core.work import Budget, Work
from bench.runner.suite import Block, Suite, parse_budget


@dataclass(frozen=True)
class Cell:
    """Everything that decides the samples, and how to run it.

    `id` hashes the former; batch and time limit are the latter and are left out.
    """

    task: str
    task_params: dict[str, Any]
    reward: str
    reward_params: dict[str, Any]
    strength: float
    condition: Any
    method: str
    method_params: dict[str, Any]
    n: int
    seed: int
    threads: int
    versions: dict[str, str]
    weights: dict[str, str]
    dtype: str = "float32"
    batch: int = 1024
    seconds: float | None = None

    @property
    def id(self) -> str:
        """Hash of the canonical JSON of what decides the samples."""
        decisive = dataclasses.asdict(self)
        for name in ("batch", "seconds"):
            decisive.pop(name)
        return digest(decisive)

    @staticmethod
    def from_json(text: str) -> Cell:
        """The inverse of `to_json`."""
        return Cell(**json.loads(text))

    def to_json(self) -> str:
        """Canonical JSON."""
        return canonical(dataclasses.asdict(self))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; tuples become lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Planned:
    """One row of a plan: a cell under a budget, or the reason why there is none."""

    cell: Cell
    task_label: str
    reward_label: str
    method_label: str
    budget: Budget | None
    status: str = "pending"
    reason: str = ""
    matched: dict[str, Any] = field(default_factory=dict)
    predicted: Work = field(default_factory=Work)
    use: float = float("nan")
    expected: float = float("nan")
    map_training: float = 0.0
    underused: bool = False
    alternatives: tuple[tuple[dict[str, Any], float], ...] = ()

    @property
    def id(self) -> str:
        return self.cell.id

    @property
    def row(self) -> str:
        """Identity of the row: the cell under this budget."""
        return f"{self.cell.id}@{self.budget or ''}"


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
    )
    label = format_name(name, changed(reward.params))
    return Bound(task, reward, strength, task_text, label, spec, refusal)


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
    }
    missing = [need.value for need in sorted(method.needs) if not has[need]]
    return f"needs {' and '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Question:
    """What matching is asked: which effort of `method` spends `budget` on this cell's problem?"""

    cell: Cell
    method: Method[Any]
    spec: ProblemSpec
    budget: Budget
    given: dict[str, Any]

    @property
    def limit(self) -> float:
        """The budget per returned sample."""
        return self.budget.per_sample(self.cell.n)

    def match(self, cost: Cost) -> Match:
        """The answer under a cost of work."""
        return match(self.method, self.spec, self.limit, cost, self.given)


class Pilot(Protocol):
    """Answers questions that rows alone do not decide (FLOPs, seconds)."""

    def match(self, question: Question) -> Match: ...


def expand(suite: Suite, pilots: Pilot | None = None) -> list[Planned]:
    """All rows of a suite, in order, without duplicates.

    Budgets in FLOPs or seconds need `pilots`.
    """
    rows: dict[str, Planned] = {}
    for block in suite.blocks:
        for task_text in block.tasks:
            for reward_text in block.rewards:
                for row in _planned(block, task_text, reward_text, pilots):
                    rows.setdefault(row.row, row)
    return list(rows.values())


def _planned(block: Block, task_text: str, reward_text: str, pilots: Pilot | None) -> list[Planned]:
    """Rows of one task and reward; what a plugin raises while planning is a UserError."""
    try:
        return _rows(block, bind(task_text, reward_text), pilots)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"planning {task_text} with {reward_text} failed in a plugin "
            f"({type(error).__name__}: {error}): run 'bench check' on it"
        ) from error


def _rows(block: Block, bound: Bound, pilots: Pilot | None) -> list[Planned]:
    budgets = [parse_budget(text) for text in block.budgets]
    methods = [(m, b) for b in budgets for m in block.with_baselines(b)]
    settings = [(c, m, b) for c in bound.task.conditions("report") for m, b in methods]
    first = block.seed_list()[0]
    rows = [_row(block, bound, pilots, *setting, first) for setting in settings]
    return [
        replace(row, cell=replace(row.cell, seed=seed))
        for row in rows
        for seed in block.seed_list()
    ]


def _row(
    block: Block,
    bound: Bound,
    pilots: Pilot | None,
    condition: Any,
    method_text: str,
    budget: Budget | None,
    seed: int,
) -> Planned:
    """One row; matching depends on neither condition nor seed."""
    name, given = parse_name(method_text)
    method: Method[Any] = plugins.load("methods", name).create(**given)
    refusal = bound.refusal or lacking(method, bound.spec, bound.task)
    found: Match | None = None
    if refusal is None and budget is not None:
        cell = _cell(block, bound, condition, name, method, seed)
        found = _match(Question(cell, method, bound.spec, budget, given), pilots)
        method = method.with_params(**found.values)
    status, reason = _status(refusal, found, budget)
    return Planned(
        cell=_cell(block, bound, condition, name, method, seed),
        task_label=bound.task_label,
        reward_label=bound.reward_label,
        method_label=method_text,
        budget=budget,
        status=status,
        reason=reason,
        matched={} if found is None else found.values,
        predicted=Work() if refusal else method.work(bound.spec),
        use=float("nan") if found is None else found.use,
        expected=float("nan") if found is None else found.cost,
        map_training=_map_training(method, bound, refusal),
        underused=found is not None and found.underused,
        alternatives=() if found is None else found.alternatives,
    )


def _map_training(method: Method[Any], bound: Bound, refusal: str | None) -> float:
    """Paper-nfe of training the map, for methods that use it."""
    uses = refusal is None and method.work(bound.spec).map.total > 0
    return bound.task.training().get("map", 0.0) if uses else 0.0


def _match(question: Question, pilots: Pilot | None) -> Match:
    unit = question.budget.unit
    if unit in ("paper-nfe", "model-nfe"):
        return question.match(lambda work: work.cost(unit))
    if pilots is None:
        raise UserError(f"budgets in {unit} need a pilot run: use bench run or bench plan")
    return pilots.match(question)


def _status(refusal: str | None, found: Match | None, budget: Budget | None) -> tuple[str, str]:
    if refusal is not None:
        return "skipped", refusal
    if found is not None and not found.feasible:
        assert budget is not None
        return "infeasible", f"needs at least {found.needed:g} {budget.unit} per sample"
    return "pending", ""


def _cell(
    block: Block, bound: Bound, condition: Any, name: str, method: Method[Any], seed: int
) -> Cell:
    task_name = parse_name(bound.task_label)[0]
    reward_name = parse_name(bound.reward_label)[0]
    return Cell(
        task=task_name,
        task_params=_values(bound.task.params),
        reward=reward_name,
        reward_params=_values(bound.reward.params),
        strength=bound.strength,
        condition=condition,
        method=name,
        method_params=_values(method.params),
        n=block.n,
        seed=seed,
        threads=block.threads,
        versions={
            "task": plugins.version_of("tasks", task_name),
            "reward": plugins.version_of("rewards", reward_name),
            "method": plugins.version_of("methods", name),
        },
        weights={**bound.task.weights(), **bound.reward.weights(), **method.weights()},
        batch=block.batch,
        seconds=block.seconds,
    )


def _values(params: Any) -> dict[str, Any]:
    """Plain values of a params dataclass, as JSON would give them back."""
    plain: Mapping[str, Any] = json.loads(canonical(dataclasses.asdict(params)))
    return dict(plain)
