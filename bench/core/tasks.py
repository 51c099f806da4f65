"""What a task and a reward are: the flow that is aligned, and what it is aligned with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from bench.core.conditions import RowConditions, sentence_of
from bench.core.credibility import Accuracy, Credibility, credibility
from bench.core.flops import Unbuilt
from bench.core.params import NoParams, UserError, build
from bench.core.protocols import Condition, Flow, MetaFlowMap, Oracle, PosteriorSampler
from bench.core.quadratic import Quadratic
from bench.core.timing import Timing, timing_of
from bench.core.units import Role
from bench.core.values import OwnSamples, Reference

P = TypeVar("P")


class Reward(Generic[P]):
    """A raw score, float32, (batch,); higher is better; never a silent NaN."""

    Params: ClassVar[type[Any]] = NoParams
    summary: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    differentiable: ClassVar[bool] = True
    wants: ClassVar[Literal["data", "latent", "pixels"]] = "data"
    learned: ClassVar[bool] = False
    """Whether the score comes from a network, so that how often people agree with it matters."""

    def __init__(self, params: P) -> None:
        self.params = params

    @classmethod
    def create(cls, **values: Any) -> Reward[Any]:
        """An instance from plain parameter values, validated."""
        return cls(build(cls.Params, values, cls.__name__))

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        """Scores of x (batch, *data_shape) under what `Task.sentence` makes of a condition."""
        raise NotImplementedError

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        """Scores of x (batch, *data_shape), each row under its own condition.

        By default a call for every condition; override it where one call can score all rows.
        """
        return torch.cat([self(rows, condition) for rows, condition in conditions.blocks(x)])

    def compatible(self, task: Task[Any]) -> str | None:
        """The reason why this reward cannot score the task's samples, or None."""
        return None

    def unbuilt(self, task: Task[Any]) -> Sequence[Unbuilt] | None:
        """What makes each of its networks for a count of FLOPs alone; None if it cannot say."""
        return None

    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        """(eta, Lambda, c0) if the reward is quadratic: gives `oracle` and `exact` to it.

        Called while planning, on a reward that is not yet bound.
        """
        return None

    def highest(self, task: Task[Any]) -> float | None:
        """The largest score that there is, or None where none is known.

        By default that of the quadratic form.  A sweep leaves out what needs it and lacks it.
        """
        form = self.quadratic(task)
        return None if form is None else form.highest

    def weights(self) -> dict[str, str]:
        """Name and SHA-256 of weight files of the reward's own, for the cell id."""
        return {}

    def judge(self, x: Tensor, condition: Condition) -> Tensor | None:
        """A held-out score of the same wish, (batch,), never optimised; None if there is none."""
        return None

    def accuracies(self) -> tuple[Accuracy, ...]:
        """How often people choose as the score does, as published; () where nothing is."""
        return ()

    def credibility(self) -> Credibility:
        """What a reader has to know before believing the score; a learned one always says it."""
        return credibility(self.accuracies()) if self.learned else Credibility()

    def judge_credibility(self) -> Credibility:
        """The same of the held-out judge; a measurement needs none."""
        return Credibility()

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
    noun: ClassVar[str] = "sample"
    """What a reader calls one sample: "image", "point"."""
    version: ClassVar[str] = "1"
    guided: ClassVar[bool] = False
    """Whether a call of the flow or the map runs its network twice (classifier-free guidance).  A
    flow with `rows` of its own says for itself."""
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
    own_samples: OwnSamples | None = None
    """Base samples that fits train on in place of data, at their own cost; None where there are
    data."""
    data_variance: float | None = None
    """Mean variance of a coordinate of what the flow generates, E|x1 - E x1|^2 / d; None where it
    is not known."""
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

    def timing(self) -> Timing:
        """The flow's own times and rows, where it has them (`bench.core.protocols.Flow`).

        Asked while planning, and so without loading weights.  A task that makes its flow when it is
        first needed (a property) says it here; the runner refuses a flow that says otherwise.
        """
        late = isinstance(getattr(type(self), "flow", None), property | cached_property)
        return Timing() if late else timing_of(getattr(self, "flow", None))

    def unbuilt(self) -> Mapping[Role, Unbuilt]:
        """What makes each network for a count of FLOPs alone; {} where its shape is not known.

        Asked while planning: from configurations, without weights.
        """
        return {}

    def conditions(self, split: str) -> list[Condition]:
        """Labels or prompts of a split ("report", "tune"); [None] for unconditional tasks."""
        return [None]

    def sentence(self, condition: Condition) -> Condition:
        """What rewards read of a condition that the flow hears; all of it where it is plain."""
        return sentence_of(condition)

    def doubt(self, condition: Condition) -> str:
        """What a reader has to know of how the flow hears a condition, or ""; rows say it."""
        return ""

    def data(self, split: str) -> Tensor | None:
        """Real samples (n, *data_shape) of a split, if there are any."""
        return None

    def has_data(self, split: str) -> bool:
        """Whether `data(split)` gives samples; said without them where making them takes time."""
        return self.data(split) is not None

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        """n points (n, *event_shape) to train on; by default uniform picks of `data("train")`.

        A task with a decoder must say what the latents of data are.  Raises UserError if the task
        has no data.
        """
        data = self.data("train")
        if data is None:
            raise UserError(f"{type(self).__name__} has no training data: define data or draw_data")
        return data[torch.randint(len(data), (n,), generator=generator)]

    def draw_data_under(self, condition: Condition, n: int, generator: torch.Generator) -> Tensor:
        """n points of what the flow makes under a condition, to fit it under that one.

        By default those of `draw_data`; a task whose flow hears labels says which have them.
        """
        return self.draw_data(n, generator)

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
