"""What rewards on pictures share: where the pixels and the prompt come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from bench.api import Condition, Reward, Task, UserError, param
from bench.models.preprocess import Pixels, to_unit


@dataclass(frozen=True)
class Scale:
    """What a raw score counts, and between which numbers it usually lies."""

    unit: str
    low: float | None = None
    high: float | None = None

    @property
    def usual(self) -> str:
        """The usual range in words; "" where none is known."""
        if self.low is None or self.high is None:
            ends = {"at least": self.low, "at most": self.high}
            return " ".join(f"{word} {end:g}" for word, end in ends.items() if end is not None)
        return f"{self.low:g} to {self.high:g}"

    def __str__(self) -> str:
        return f"{self.unit}, usually {self.usual}" if self.usual else self.unit


PictureP = TypeVar("PictureP", bound="PictureParams")


@dataclass(frozen=True)
class PictureParams:
    """The range of the pictures."""

    pixels: Pixels = param(
        "signed", tunable=False, help="range of the pictures: signed [-1, 1] or unit [0, 1]"
    )


@dataclass(frozen=True)
class PromptedParams(PictureParams):
    """A reward that reads a sentence beside the picture."""

    prompt: str = param("", tunable=False, help="the sentence; default: the condition")


class PictureReward(Reward[PictureP]):
    """A reward of pictures (n, 1 or 3, height, width)."""

    wants = "pixels"
    said: ClassVar[tuple[str, ...]] = ()
    """Parameters that stand in every label, since scores at different values cannot be compared."""
    scales: ClassVar[dict[str, Scale]] = {}
    """Units and usual ranges by what they depend on; see `scale`."""

    def labelled(self) -> dict[str, Any]:
        """Parameters by name, default or not, that every label of the reward says."""
        return {name: getattr(self.params, name) for name in self.said}

    @property
    def scale(self) -> Scale | str:
        """What the raw score means at these parameters, and how large it usually is."""
        return self.scales[self.scale_name()]

    def scale_name(self) -> str:
        """Which of the scales holds; of a reward with one it is the only one."""
        return next(iter(self.scales))

    def unit(self, x: Tensor) -> Tensor:
        """RGB in [0, 1], float32, never clipped."""
        return to_unit(x, self.params.pixels)

    def external(self) -> tuple[str, ...]:
        """Names of the published weights that `bench prefetch` fetches for these parameters."""
        return ()

    def doubt(self) -> str:
        """What may be wrong with the score although everything fits, or ""."""
        return ""

    def compatible(self, task: Task[Any]) -> str | None:
        shape = tuple(task.data_shape)
        if len(shape) != 3 or shape[0] not in (1, 3):
            return f"it scores pictures, and the task's samples have shape {shape}"
        return None


PromptedP = TypeVar("PromptedP", bound=PromptedParams)


class PromptedReward(PictureReward[PromptedP]):
    """A reward of pictures and a prompt."""

    def compatible(self, task: Task[Any]) -> str | None:
        reason = super().compatible(task)
        if reason is None and not self.params.prompt:
            prompted = all(isinstance(task.sentence(c), str) for c in task.conditions("report"))
            reason = None if prompted else "it needs prompts: give one with prompt=..."
        return reason

    def prompt(self, condition: Condition) -> str:
        """The sentence that is scored against."""
        said = self.params.prompt or condition
        if not isinstance(said, str):
            raise UserError(
                f"the reward {type(self).__name__} needs a sentence: the condition is "
                f"{condition!r}, give prompt=..."
            )
        return said

    def tokens_cut(self, condition: Condition) -> int:
        """How many tokens at the end of the prompt its encoder does not read."""
        return 0
