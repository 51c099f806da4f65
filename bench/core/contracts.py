"""The contracts: what a method, a reward, a task and a metric are, and what they are handed.

`bench.api` re-exports all of it; plugin authors import nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from bench.core.interpolant import Interpolant
from bench.core.params import NoParams, build
from bench.core.quadratic import Quadratic
from bench.core.work import Budget, Work

if TYPE_CHECKING:
    from bench.core.problem import FitProblem, Problem

P = TypeVar("P")
Condition = Any
"""A label, a prompt, or None for an unconditional task."""


class Need(StrEnum):
    """What a method cannot run without; a cell that lacks one is skipped with the reason."""

    REWARD_GRADIENT = "a differentiable reward"
    POSTERIOR = "an exact posterior sampler"
    PATHWISE_POSTERIOR = "a posterior sampler that gradients pass through"
    FLOW_MAP = "a flow map"
    ORACLE = "a closed-form value function"
    FIT = "a trainable flow"


# -- models ---------------------------------------------------------------------------------------


class Flow(Protocol):
    """A base generative model: x0 ~ N(0, I) is carried to the data by dx/dt = b_t(x)."""

    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def interpolant(self) -> Interpolant: ...

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), shape of x (batch, *event_shape); t is (batch,)."""
        ...


class FlowMap(Protocol):
    """A deterministic two-time map of the base flow."""

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The state at time u of the trajectory that passes through x at time s."""
        ...


class MetaFlowMap(FlowMap, Protocol):
    """A flow map for every posterior; `jump` is its t = 0 slice."""

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x): X_{s,u} = x_bar + (u - s) v carries N(0, I) to p(x1 | x_t = x)."""
        ...


class Noise(Protocol):
    """Named standard normals for the rows at hand."""

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(batch, *shape), the same for the same name."""
        ...


class PosteriorSampler(Protocol):
    """Draws from p(x1 | x_t = x), exactly or approximately."""

    pathwise: bool
    """Whether gradients with respect to x pass through a draw."""
    rows_per_draw: int
    """Model rows that one more draw at the same (x, t) costs."""

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event_shape)."""
        ...


class Oracle(Protocol):
    """The closed-form answer for one reward: what `oracle` steers with and `exact` draws from."""

    log_z: float

    def shift(self, x: Tensor, t: Tensor) -> Tensor:
        """D^r_t(x) - D_t(x); the steering term is `interpolant.tilt(shift, t)`."""
        ...

    def value(self, x: Tensor, t: Tensor) -> Tensor:
        """V_t(x), (batch,)."""
        ...

    def draw(self, z: Tensor, extra: Tensor) -> Tensor:
        """I.i.d. draws of the tilted law from normals z (n, *event_shape) and extra (n,)."""
        ...


# -- what is returned -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """What a method returns.

    x: (n, *event_shape).  log_weight: (n,) for weighted draws, else None.  group: (n,) ids; rows
    of one particle population or one search are dependent and share an id.  log_z: an estimate of
    log Z.  info: diagnostics.
    """

    x: Tensor
    log_weight: Tensor | None = None
    group: Tensor | None = None
    log_z: float | None = None
    info: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """Concatenate batches; groups are renumbered apart, diagnostics averaged by batch size."""
        n = sum(map(len, parts))
        keys = {key for part in parts for key in part.info}
        info = {k: sum(p.info.get(k, 0.0) * len(p) for p in parts) / n for k in sorted(keys)}
        estimates = [p.log_z for p in parts if p.log_z is not None]
        return Samples(
            torch.cat([p.x for p in parts]),
            _cat([p.log_weight for p in parts]),
            _cat(_apart([p.group for p in parts])),
            sum(estimates) / len(estimates) if estimates else None,
            info,
        )


def _apart(groups: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Group ids of consecutive batches, shifted so that no two batches share one."""
    out: list[Tensor | None] = []
    offset = 0
    for group in groups:
        if group is None:
            out.append(None)
            continue
        ids = torch.unique(group, return_inverse=True)[1]
        out.append(ids + offset)
        offset += int(ids.max()) + 1
    return out


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) == len(parts) else None


@dataclass(frozen=True)
class ProblemSpec:
    """Shapes and flags from which a method's work is predicted; no weights are loaded."""

    event_shape: tuple[int, ...]
    reward_differentiable: bool = True
    has_decoder: bool = False
    has_flow_map: bool = False
    has_posterior: bool = False
    has_oracle: bool = False
    trainable: bool = False
    guided: bool = False
    """Whether a flow or map call runs twice (classifier-free guidance)."""


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves behind: the adapted weights and a record of how they came about."""

    state: dict[str, Tensor]
    record: dict[str, float]


# -- plugins --------------------------------------------------------------------------------------


class Method(Generic[P]):
    """An algorithm that returns samples for a problem.

    A subclass names its `Params` (a frozen dataclass, the only home of defaults and ranges), what
    it `needs`, and in `effort` the parameters that buy compute, in the order in which matching
    raises them.
    """

    Params: ClassVar[type[Any]] = NoParams
    effort: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[str] = "1"

    def __init__(self, params: P) -> None:
        self.params = params

    @classmethod
    def create(cls, **values: Any) -> Method[Any]:
        """An instance from plain parameter values, validated."""
        return cls(build(cls.Params, values, cls.__name__))

    @property
    def needs(self) -> frozenset[Need]:
        """What this method, with these parameters, cannot run without."""
        return frozenset()

    def with_params(self, **values: Any) -> Method[P]:
        """The same method with some parameters replaced."""
        return type(self)(replace(self.params, **values))  # type: ignore[type-var]

    def weights(self) -> dict[str, str]:
        """Name and SHA-256 of weight files of the method's own, for the cell id."""
        return {}

    def least(self, name: str) -> int:
        """The least value that matching may give an effort parameter; default: its lower bound."""
        return 1

    def work(self, spec: ProblemSpec) -> Work:
        """Predicted work per returned sample."""
        raise NotImplementedError

    def sample(self, problem: Problem, n: int) -> Samples:
        """n samples of the problem."""
        raise NotImplementedError


class FineTuning(Method[P]):
    """A method that first fits the flow; sampling then sees the fitted flow as `problem.flow`."""

    def fit_work(self, spec: ProblemSpec) -> Work:
        """Predicted work of the fit."""
        raise NotImplementedError

    def fit(self, problem: FitProblem) -> Fitted:
        """Adapt the flow to the reward."""
        raise NotImplementedError


class Reward(Generic[P]):
    """A raw score, float32, (batch,); higher is better; never a silent NaN."""

    Params: ClassVar[type[Any]] = NoParams
    version: ClassVar[str] = "1"
    differentiable: ClassVar[bool] = True
    wants: ClassVar[Literal["data", "latent", "pixels"]] = "data"

    def __init__(self, params: P) -> None:
        self.params = params

    @classmethod
    def create(cls, **values: Any) -> Reward[Any]:
        """An instance from plain parameter values, validated."""
        return cls(build(cls.Params, values, cls.__name__))

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        raise NotImplementedError

    def compatible(self, task: Task[Any]) -> str | None:
        """The reason why this reward cannot score the task's samples, or None."""
        return None

    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        """(eta, Lambda, c0) if the reward is quadratic: gives `oracle` and `exact` to it.

        Called while planning, on a reward that is not yet bound.
        """
        return None

    def weights(self) -> dict[str, str]:
        """Name and SHA-256 of weight files of the reward's own, for the cell id."""
        return {}

    def judge(self, x: Tensor, condition: Condition) -> Tensor | None:
        """A held-out score of the same wish, (batch,), never optimised; None if there is none."""
        return None

    def bind(self, task: Task[Any]) -> None:
        """Called once with the task before scoring, for rewards that depend on its shape."""


@dataclass(frozen=True)
class Reference:
    """A sample that stands for a law: exact, or real data with weights.

    x: (n, *event_shape), weight: (n,) summing to 1 or None, exact: drawn from the law itself.
    """

    x: Tensor
    weight: Tensor | None = None
    exact: bool = False

    @property
    def effective_size(self) -> float:
        """1 / sum of squared weights."""
        return float(len(self.x)) if self.weight is None else float(1 / self.weight.square().sum())


class Task(Generic[P]):
    """A flow with its data, conditions and metrics.

    `flow_map` and `posterior` are None where they do not exist.  `reference(reward, strength, n,
    noise)` stands for the tilted law; `oracle(reward, strength)` is None without a closed form.
    """

    Params: ClassVar[type[Any]] = NoParams
    version: ClassVar[str] = "1"
    metrics: ClassVar[tuple[str, ...]] = ("reward",)
    flow: Flow
    flow_map: MetaFlowMap | None = None
    posterior: PosteriorSampler | None = None
    event_shape: tuple[int, ...]

    def __init__(self, params: P) -> None:
        self.params = params

    @classmethod
    def create(cls, **values: Any) -> Task[Any]:
        """An instance from plain parameter values, validated."""
        return cls(build(cls.Params, values, cls.__name__))

    def weights(self) -> dict[str, str]:
        """Name and SHA-256 of every weight file that decides the samples."""
        return {}

    def training(self) -> dict[str, float]:
        """Paper-nfe spent on training the task's networks: keys `flow` and `map`."""
        return {}

    def conditions(self, split: str) -> list[Condition]:
        """Labels or prompts of a split ("report", "tune"); [None] for unconditional tasks."""
        return [None]

    def data(self, split: str) -> Tensor | None:
        """Real samples (n, *event_shape) of a split, if there are any."""
        return None

    def oracle(self, reward: Reward[Any], strength: float) -> Oracle | None:
        """The closed-form answer for strength * reward, if it is quadratic and the task exact."""
        return None

    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        """n exact samples of the tilted law, or weighted real ones, or None."""
        return None

    def render(self, x: Tensor) -> Tensor | None:
        """uint8 images (n, height, width, 3) for galleries, or None for point clouds."""
        return None


# -- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """The law that was asked for: strength * reward under a condition."""

    reward: Reward[Any]
    strength: float
    condition: Condition = None
    seed: int = 0
    cache: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Measurement:
    """A metric's value; `value` is None when it refuses, and `note` says why."""

    value: float | None
    standard_error: float | None = None
    n: int = 0
    note: str = ""
    per_sample: Tensor | None = None


class Metric:
    """(Samples, task) -> Measurement, for one target law.

    `direction` says which way is better; `implementation` names the library or rule behind the
    number; `smallest_n` is the smallest honest sample.
    """

    direction: ClassVar[Literal["higher", "lower", "none"]] = "none"
    version: ClassVar[str] = "1"
    implementation: ClassVar[str] = "tiltbench"
    smallest_n: ClassVar[int] = 2

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        raise NotImplementedError


__all__ = [
    "Budget",
    "Condition",
    "FineTuning",
    "Fitted",
    "Flow",
    "FlowMap",
    "Mapping",
    "Measurement",
    "MetaFlowMap",
    "Method",
    "Metric",
    "Need",
    "Noise",
    "Oracle",
    "Path",
    "PosteriorSampler",
    "ProblemSpec",
    "Reference",
    "Reward",
    "Samples",
    "Target",
    "Task",
    "Work",
]
