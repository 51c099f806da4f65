"""What a sweep is asked: problem, budget, objectives, sampler, space, seeds of each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

from bench.core import plugins
from bench.core.cells import digest
from bench.core.params import UserError, build, nearest, param, parse_name, respelled
from bench.core.tasks import Task
from bench.core.work import Budget
from bench.plan.binding import bind
from bench.plan.budgets import parse_budget, respelled_budget
from bench.runner.measuring import wanted_metrics
from sweeps.samplers import make_sampler
from sweeps.space import check_known, read_change

TUNING_SEED = 1_000_000
"""Seeds from here on are for tuning; those of reports lie below."""

SEEDS_APART = 1000
"""Tuning seeds per sweep seed."""

EVEN = 0.05
"""By how much the tuning work of two methods may differ."""

PREFERRED = ("sliced-w2", "frechet", "prompt-match")
"""Default objectives, the first that the task measures; else the reward."""

SECONDS = "seconds"


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving over the trial's seeds (arXiv 1810.05934).

    After 1, reduction, reduction^2, ... seeds a trial goes on if it is among the best
    1 / reduction of the earlier trials that came as far; the first `grace` trials all go on.
    """

    reduction: int = param(3, low=2, help="one in so many goes on")
    grace: int = param(5, low=1, help="trials that are never stopped")


@dataclass(frozen=True)
class Spec:
    """A sweep.  `trials` is what the total tuning work is stated in, per method."""

    task: str
    reward: str
    methods: tuple[str, ...]
    budget: str
    objectives: tuple[str, ...] = ()
    trials: int = 40
    sampler: str = "tpe"
    seed: int = 0
    tuning_seeds: int = 2
    seeds: tuple[int, ...] = (0, 1, 2)
    n: int = 256
    prune: str | None = None
    space: dict[str, Any] = field(default_factory=dict)
    batch: int = 1024
    threads: int = 1
    seconds: float | None = None
    device: str = "cpu"
    dtype: str = "float32"
    resources: dict[str, float] = field(default_factory=dict)

    @property
    def limit(self) -> Budget:
        """The budget; without one, tuning would buy compute."""
        found = parse_budget(self.budget)
        if found is None:
            raise UserError("a sweep needs a budget (-b), so that tuning cannot buy compute")
        return found

    @property
    def pruner(self) -> Asha | None:
        """The pruning rule."""
        if self.prune is None:
            return None
        name, values = parse_name(self.prune)
        if name != "asha":
            raise UserError(f"unknown pruning '{name}': known: asha")
        found: Asha = build(Asha, values, name)
        return found

    def tuning_seed(self, index: int) -> int:
        """The index-th seed to tune on."""
        return TUNING_SEED + SEEDS_APART * self.seed + index

    def total_work(self, conditions: int) -> float:
        """Tuning work per method, in the budget's unit."""
        sampling = self.tuning_seeds * self.n * self.limit.per_sample(self.n)
        return self.trials * conditions * (sampling + (self.limit.fit_budget or 0.0))

    def identity(self) -> dict[str, Any]:
        """What makes two commands the same sweep: neither its length nor where it reports."""
        decisive = asdict(respelled_spec(self))
        for name in ("trials", "seeds", "batch", "device", "resources"):
            decisive.pop(name)
        if self.dtype == "float32":  # as it was before there was a choice
            decisive.pop("dtype")
        return decisive | {"sampler": make_sampler(self.sampler).describe()}

    @property
    def name(self) -> str:
        """The default name of the run."""
        return f"sweep-{digest(self.identity() | {'optuna': version('optuna')})[:8]}"


def respelled_spec(spec: Spec) -> Spec:
    """The spec with every number in one spelling: another one is no other study."""
    return replace(
        spec,
        task=respelled(spec.task),
        reward=respelled(spec.reward),
        methods=tuple(map(respelled, spec.methods)),
        budget=respelled_budget(spec.budget),
        prune=None if spec.prune is None else respelled(spec.prune),
        space={name: read_change(content, name) for name, content in spec.space.items()},
    )


def checked(spec: Spec) -> Spec:
    """The spec with its objectives filled in; UserError for whatever cannot be swept."""
    spec = respelled_spec(spec)
    bound = bind(spec.task, spec.reward)
    if bound.refusal:
        raise UserError(f"{spec.reward} cannot be asked on {spec.task}: {bound.refusal}")
    names = [parse_name(text)[0] for text in spec.methods]
    classes = {name: plugins.load("methods", name).Params for name in names}
    check_known(spec.space, classes)
    if len(set(spec.methods)) < len(spec.methods):
        raise UserError("a method is named twice")
    if spec.trials < 1 or spec.tuning_seeds < 1:
        raise UserError("a sweep needs at least 1 trial and 1 tuning seed")
    tuning = [spec.tuning_seed(i) for i in range(spec.tuning_seeds)]
    check_disjoint(tuning, spec.seeds)
    check_conditions(bound.task, spec.task)
    filled = replace(spec, objectives=_objectives(spec))
    _check_even(filled)
    make_sampler(spec.sampler)
    if filled.pruner and len(filled.objectives) > 1:
        raise UserError("pruning needs a single objective: leave out --prune or an --objective")
    return filled


def _objectives(spec: Spec) -> tuple[str, ...]:
    task = parse_name(spec.task)[0]
    metrics = wanted_metrics(task)
    chosen = spec.objectives or (next((m for m in PREFERRED if m in metrics), "reward"),)
    for name in chosen:
        direction_of(name)
        if name == SECONDS:
            continue
        if name not in metrics:
            raise UserError(f"{task} does not measure '{name}': {nearest(name, metrics)}")
        least = plugins.load("metrics", name).smallest_n
        if spec.n < least:
            raise UserError(f"{name} needs at least {least} samples: set n (now {spec.n})")
    return chosen


def direction_of(objective: str) -> str:
    """`minimize` or `maximize`."""
    if objective == SECONDS:
        return "minimize"
    direction = plugins.load("metrics", objective).direction
    if direction == "none":
        raise UserError(f"'{objective}' is neither better high nor low: choose another objective")
    return "maximize" if direction == "higher" else "minimize"


def check_disjoint(tuning: Sequence[int], reporting: Sequence[int]) -> None:
    """No seed may be tuned on and reported."""
    shared = {s for s in reporting if s in set(tuning) or s >= TUNING_SEED}
    if shared:
        raise UserError(
            f"seed {min(shared)} is for tuning and cannot be reported: seeds of reports lie below "
            f"{TUNING_SEED}"
        )


def check_conditions(task: Task[Any], label: str) -> None:
    """No condition may be tuned on and reported."""
    tune, report = task.conditions("tune"), task.conditions("report")
    shared = [c for c in tune if c in report and c is not None]
    if shared:
        raise UserError(
            f"{label} reports the condition '{shared[0]}' that it also tunes on: its "
            "conditions('tune') and conditions('report') must be disjoint"
        )


def _check_even(spec: Spec) -> None:
    """Work is spent seed by seed, so that few seeds cannot be spread evenly over methods."""
    rounds = spec.trials * spec.tuning_seeds
    if len(spec.methods) > 1 and rounds * EVEN < 1:
        raise UserError(
            f"the work of {spec.trials} trials on {spec.tuning_seeds} seeds cannot be made equal "
            f"between methods within {EVEN:.0%}: trials x tuning seeds must be {round(1 / EVEN)} "
            "or more"
        )
