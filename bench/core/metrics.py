"""What a metric is: it measures samples against the law that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from bench.core.conditions import sentence_of
from bench.core.credibility import Credibility
from bench.core.protocols import Condition
from bench.core.returned import checked_scores
from bench.core.tasks import Reward, Task
from bench.core.values import Measurement, Samples

Measures = Literal[
    "", "target", "judge", "distance", "shift", "diversity", "drift", "tilt", "disagreement"
]
"""What a metric speaks of: the reward that was asked for, a held-out score of the same wish, the
distance to the tilted law, that to the untilted one, the variety of the samples, what they look
like apart from any wish, how strong the tilt is, or how far the parts of a reward are apart.
"""


@dataclass(frozen=True)
class Target:
    """The law that was asked for: strength * reward under a condition.

    read: what the task lets rewards read of it; None is what the condition says by itself.
    """

    reward: Reward[Any]
    strength: float
    condition: Condition = None
    seed: int = 0
    cache: dict[str, Any] = field(default_factory=dict, compare=False)
    read: Condition = None

    @property
    def sentence(self) -> Condition:
        """What rewards and judges are called with."""
        return sentence_of(self.condition) if self.read is None else self.read

    def scores(self, x: Tensor) -> Tensor:
        """The reward of samples that are decoded, (n,); raises BadReturn for anything else."""
        return checked_scores(self.reward(x, self.sentence), f"the reward {self._name}", len(x))

    def judged(self, x: Tensor) -> Tensor | None:
        """The scores of the reward's judge, (n,), None if it has none; raises BadReturn."""
        found = self.reward.judge(x, self.sentence)
        owner = f"the judge of the reward {self._name}"
        return None if found is None else checked_scores(found, owner, len(x))

    @property
    def _name(self) -> str:
        return type(getattr(self.reward, "_reward", self.reward)).__name__


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

    def credibility(self) -> Credibility:
        """How far people agree with what measures; empty where nothing learnt does."""
        return Credibility()


class RowMetric(Metric):
    """A metric of what is said of every sample apart, so that samples may be measured in pieces."""

    def each(self, x: Tensor, task: Task[Any]) -> Tensor | None:
        """Of decoded samples (m, *data_shape) as many rows; None where nothing can be said."""
        raise NotImplementedError

    def of(self, values: Tensor | None, samples: Samples, task: Task[Any]) -> Measurement:
        """The measurement, from what `each` said of all samples, whose own x is not decoded."""
        raise NotImplementedError

    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        return self.of(self.each(samples.x, task), samples, task)


class FewMetric(Metric):
    """A metric that looks at few samples of equal weight: of very many no others are decoded."""

    def looks_at(self, samples: Samples) -> Tensor:
        """Their indices (m,)."""
        raise NotImplementedError

    def among(self, x: Tensor, n: int, task: Task[Any]) -> Measurement:
        """The measurement of n samples from those (m, *data_shape) that it looks at."""
        raise NotImplementedError

    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        return self.among(samples.x[self.looks_at(samples)], len(samples), task)
