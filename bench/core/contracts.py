"""The contracts: what a method, a reward, a task and a metric are, and what they are handed.

`bench.api` re-exports all of it; plugin authors import nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from bench.core.params import NoParams, UserError, build
from bench.core.problem import FitProblem, Problem
from bench.core.protocols import (
    Condition,
    Flow,
    FlowMap,
    MetaFlowMap,
    Noise,
    Oracle,
    PosteriorSampler,
)
from bench.core.quadratic import Quadratic
from bench.core.values import Fitted, Measurement, ProblemSpec, Reference, Samples
from bench.core.work import Budget, Work

P = TypeVar("P")


class Need(StrEnum):
    """What a method cannot run without; a cell that lacks one is skipped with the reason."""

    REWARD_GRADIENT = "a differentiable reward"
    POSTERIOR = "an exact posterior sampler"
    PATHWISE_POSTERIOR = "a posterior sampler that gradients pass through"
    FLOW_MAP = "a flow map"
    ORACLE = "a closed-form value function"
    FIT = "a trainable flow"


Standing = Literal["method", "baseline", "reference", "closed form"]
"""What a report takes a method for: a contestant, what everybody would compare with, an end of the
scale, or something that knows the closed form and is never marked as best."""

Measures = Literal[
    "", "target", "judge", "distance", "shift", "diversity", "drift", "tilt", "disagreement"
]
"""What a metric speaks of: the reward that was asked for, a held-out score of the same wish, the
distance to the tilted law, that to the untilted one, the variety of the samples, what they look
like apart from any wish, how strong the tilt is, or how far the parts of a reward are apart.
"""

# -- plugins --------------------------------------------------------------------------------------


class Method(Generic[P]):
    """An algorithm that returns samples for a problem.

    A subclass names its `Params` (a frozen dataclass, the only home of defaults and ranges), what
    it `needs`, and in `effort` the parameters that buy compute, in the order in which matching
    raises them.

    The rest is what tables and reports say of it.  `summary`: a sentence.  `standing`: its place in
    a comparison.  `tag`: a word beside its name; "floor" stands for draws of the tilted law itself,
    "untilted" for those of the base model.  `caveat`: why it does not sample the tilted law however
    much it computes, if that is known ("it puts ..."; told where its distance shows it).  `push`:
    the parameter, if it has it, that multiplies the reward's gradient as its strength does.
    `best_of`: the parameter N of a method that returns the best of N draws of the base model.
    `colour`: "#rrggbb" that figures should draw it in, while no other method of theirs has it.
    """

    Params: ClassVar[type[Any]] = NoParams
    summary: ClassVar[str] = ""
    standing: ClassVar[Standing] = "method"
    tag: ClassVar[str] = ""
    caveat: ClassVar[str] = ""
    push: ClassVar[str] = "guidance"
    best_of: ClassVar[str] = ""
    colour: ClassVar[str] = ""
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
    """A method that first fits the flow; sampling then sees the fitted flow as `problem.flow`.

    `sampling` names the parameters that leave the fit alone: cells that differ only in those share
    one fit.  `fit_effort` names the parameters that buy compute for the fit, for `fit_budget`.
    """

    sampling: ClassVar[tuple[str, ...]] = ("steps",)
    fit_effort: ClassVar[tuple[str, ...]] = ("iterations",)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.FIT})

    @property
    def rank(self) -> int:
        """Rank of the LoRA that is trained; 0 trains all weights."""
        return int(getattr(self.params, "rank", 0))

    def fit_work(self, spec: ProblemSpec) -> Work:
        """Predicted work of the whole fit, in rows."""
        raise NotImplementedError

    def fit(self, problem: FitProblem) -> Fitted:
        """Adapt the flow to the reward."""
        raise NotImplementedError


class Reward(Generic[P]):
    """A raw score, float32, (batch,); higher is better; never a silent NaN."""

    Params: ClassVar[type[Any]] = NoParams
    summary: ClassVar[str] = ""
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


class Task(Generic[P]):
    """A flow with its data, conditions and metrics.

    `flow_map` and `posterior` are None where they do not exist.  `reference(reward, strength, n,
    noise)` stands for the tilted law; `oracle(reward, strength)` is None without a closed form.
    With `decode` the flow lives in latents: samples are latents, and whoever looks at them
    (rewards, references, metrics, `render`) sees what they decode to.
    """

    Params: ClassVar[type[Any]] = NoParams
    summary: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    guided: ClassVar[bool] = False
    """Whether a call of the flow or the map runs its network twice (classifier-free guidance)."""
    metrics: ClassVar[tuple[str, ...]] = ("reward",)
    world: ClassVar[str | None] = None
    """Where `bench train` finds how the task's networks are trained ("module:NAME", a
    `bench.worlds.World`); None if there are none.  By name, as sampling needs no training."""
    flow: Flow
    trainable_flow: Callable[[], nn.Module] | None = None
    """Makes a fresh module that equals `flow` and can be trained; None if there is none."""
    flow_map: MetaFlowMap | None = None
    posterior: PosteriorSampler | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    """(n, *event_shape) -> (n, *data_shape), differentiable; None if samples are data."""
    event_shape: tuple[int, ...]

    def __init__(self, params: P) -> None:
        self.params = params

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape of what rewards and metrics see; a task with a decoder says which."""
        return self.event_shape

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
        """Real samples (n, *data_shape) of a split, if there are any."""
        return None

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        """n points (n, *event_shape) to train on; by default uniform picks of `data("train")`.

        A task with a decoder must say what the latents of data are.  Raises UserError if the task
        has no data.
        """
        data = self.data("train")
        if data is None:
            raise UserError(f"{type(self).__name__} has no training data: define data or draw_data")
        return data[torch.randint(len(data), (n,), generator=generator)]

    def oracle(self, reward: Reward[Any], strength: float) -> Oracle | None:
        """The closed-form answer for strength * reward, if it is quadratic and the task exact."""
        return None

    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        """n exact samples of the tilted law, or weighted real ones, or None."""
        return None

    def render(self, x: Tensor) -> Tensor | None:
        """uint8 images (n, height, width, 3) of x (n, *data_shape), or None for point clouds."""
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


class Metric:
    """(Samples, task) -> Measurement, for one target law.

    `direction` says which way is better; `implementation` names the library or rule behind the
    number; `smallest_n` is the smallest honest sample.  `summary` is a sentence for readers, `rank`
    the place in tables (small ones first), `measures` what the number speaks of, and `floor`
    whether what exact draws score is positive, so that multiples of it make sense.
    """

    summary: ClassVar[str] = ""
    rank: ClassVar[int] = 1000
    measures: ClassVar[Measures] = ""
    floor: ClassVar[bool] = False
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
    "Measurement",
    "Measures",
    "MetaFlowMap",
    "Method",
    "Metric",
    "Need",
    "Noise",
    "Oracle",
    "PosteriorSampler",
    "ProblemSpec",
    "Reference",
    "Reward",
    "Samples",
    "Standing",
    "Target",
    "Task",
    "Work",
]
