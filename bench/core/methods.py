"""What a method is, what it needs, and where it stands in a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, Generic, Literal, TypeVar

from bench.core.params import NoParams, build
from bench.core.problem import FitProblem, Problem
from bench.core.values import Fitted, ProblemSpec, Samples
from bench.core.work import Work

P = TypeVar("P")


class Need(StrEnum):
    """What a method cannot run without; a cell that lacks one is skipped with the reason."""

    REWARD_GRADIENT = "a differentiable reward"
    POSTERIOR = "an exact posterior sampler"
    DATA_VARIANCE = "a task that states the variance of its data"
    PATHWISE_POSTERIOR = "a posterior sampler that gradients pass through"
    FLOW_MAP = "a flow map"
    ORACLE = "a closed-form value function"
    FIT = "a trainable flow"


Standing = Literal["method", "baseline", "reference", "closed form"]
"""What a report takes a method for: a contestant, what everybody would compare with, an end of the
scale, or something that knows the closed form and is never marked as best."""


@dataclass(frozen=True)
class Growth:
    """How an effort parameter follows the scale s of a budget: at * s^power, within its range.

    most: where it ends, so that what a larger budget leaves goes to the others.
    """

    at: float
    power: float
    most: float = math.inf

    def value(self, scale: float, low: int, high: int) -> int:
        """The parameter at this scale."""
        wanted: float = min(self.at * scale**self.power, self.most)
        return round(min(max(wanted, low), high))


class Method(Generic[P]):
    """An algorithm that returns samples for a problem.

    A subclass names its `Params` (a frozen dataclass, the only home of defaults and ranges), what
    it `needs`, and in `effort` the parameters that buy compute, in the order in which matching
    raises them.  `split` says how they share a budget: all of them follow one scale, the largest
    that fits; without it the others keep their defaults.  The evidence is in results/splits.md.

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
    split: ClassVar[Mapping[str, Growth]] = {}
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

    @property
    def together(self) -> int:
        """Samples that are made together, such as a population: batches are multiples of it."""
        return 1

    def with_params(self, **values: Any) -> Method[P]:
        """The same method with some parameters replaced."""
        return type(self)(replace(self.params, **values))  # type: ignore[type-var]

    def weights(self) -> dict[str, str]:
        """Name and SHA-256 of weight files of the method's own, for the cell id."""
        return {}

    def least(self, name: str) -> int:
        """The least value that matching may give an effort parameter; default: its lower bound."""
        return 1

    def searchable(self, spec: ProblemSpec) -> bool:
        """Whether a sweep tries these parameters where nobody asked for them; default: always."""
        return True

    def growths(self) -> Mapping[str, Growth]:
        """How a budget is shared with these parameters; default: `split`."""
        return self.split

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
    `many_conditions` says that one fit may be for many conditions (`FitProblem.parts`), and
    `reads_data` that it trains on the task's data (`FitProblem.data`).
    """

    sampling: ClassVar[tuple[str, ...]] = ("steps",)
    fit_effort: ClassVar[tuple[str, ...]] = ("iterations",)
    many_conditions: ClassVar[bool] = False
    reads_data: ClassVar[bool] = False

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.FIT})

    @property
    def rank(self) -> int:
        """Rank of the LoRA that is trained; 0 trains all weights."""
        return int(getattr(self.params, "rank", 0))

    @property
    def shared_rows(self) -> int | None:
        """Rows per optimiser step, which the workers of a fit share equally; None: its `fit` takes
        no account of `FitProblem.group`, so that one worker does all of it.
        """
        return None

    def fit_work(self, spec: ProblemSpec) -> Work:
        """Predicted work of the whole fit, in rows."""
        raise NotImplementedError

    def fit(self, problem: FitProblem) -> Fitted:
        """Adapt the flow to the reward."""
        raise NotImplementedError
