"""Rewards made of others: weighted sums, and any Python callable."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bench.api import (
    Condition,
    Credibility,
    Reward,
    RowConditions,
    Task,
    Unbuilt,
    UserError,
    digest_of,
    names_in,
    nearest,
    param,
    parse_name,
    plugins,
)
from bench.models.picture_folder import pillow
from rewards.pictures import PromptedParams, PromptedReward, Scale


@dataclass(frozen=True)
class SumParams:
    """The parts; parameters of a part are written with ; for the : and the , of the grammar."""

    rewards: tuple[str, ...] = param((), tunable=False, help="e.g. hpsv2|class;label=3")
    weights: tuple[float, ...] = param((), tunable=False, help="one for each; default: all 1")

    def __post_init__(self) -> None:
        if not self.rewards:
            raise ValueError("name the parts: sum:rewards=hpsv2|aesthetic,weights=1|0.1")
        if self.weights and len(self.weights) != len(self.rewards):
            raise ValueError("rewards and weights must have the same length")


class WeightedSum(Reward[SumParams]):
    """sum_k w_k r_k(x): several wishes at once, or an ensemble of scorers of one wish.

    Raw scales differ by orders of magnitude (a cosine of 0.3, a PickScore of 21), so weights have
    to carry the units.  The judge is the same sum of the parts' judges, if all have one.
    """

    Params = SumParams
    scale: ClassVar[Scale] = Scale("sum of the parts' raw scores times their weights")

    def __init__(self, params: SumParams) -> None:
        super().__init__(params)
        vars(self)["differentiable"] = all(part.differentiable for part in self.parts)

    @cached_property
    def parts(self) -> list[Reward[Any]]:
        """The rewards, in order."""
        out = []
        for text in self.params.rewards:
            name, values = parse_name(text.replace(";", ":", 1).replace(";", ","))
            out.append(plugins.load("rewards", name).create(**values))
        return out

    def _weights(self, like: Tensor) -> Tensor:
        return torch.tensor(self.params.weights or (1.0,) * len(self.parts)).to(like)

    def members(self, x: Tensor, condition: Condition) -> Tensor:
        """Raw scores of the parts, (parts, n)."""
        return torch.stack([part(x, condition) for part in self.parts])

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        scores = self.members(x, condition)
        return self._weights(scores) @ scores

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        scores = torch.stack([part.score_rows(x, conditions) for part in self.parts])
        return self._weights(scores) @ scores

    def judge(self, x: Tensor, condition: Condition) -> Tensor | None:
        found = [part.judge(x, condition) for part in self.parts]
        scores = [score for score in found if score is not None]
        if len(scores) < len(found):
            return None
        stacked = torch.stack(scores)
        return self._weights(stacked) @ stacked

    def credibility(self) -> Credibility:
        """Of each part that is learnt."""
        said = [part.credibility() for part in self.parts]
        named = zip(self.params.rewards, said, strict=True)
        learned = [f"{name}: {one.accuracy}" for name, one in named if one.accuracy]
        sources = dict.fromkeys(one.source for one in said if one.source)
        return Credibility("; ".join(learned), "; ".join(sources))

    def unbuilt(self, task: Task[Any]) -> tuple[Unbuilt, ...] | None:
        """The networks of all parts, if each of them says."""
        said = [part.unbuilt(task) for part in self.parts]
        known = [makers for makers in said if makers is not None]
        return tuple(chain(*known)) if len(known) == len(said) else None

    def bind(self, task: Task[Any]) -> None:
        for part in self.parts:
            part.bind(task)

    def compatible(self, task: Task[Any]) -> str | None:
        reasons = zip(self.params.rewards, (p.compatible(task) for p in self.parts), strict=True)
        return next((f"{name}: {reason}" for name, reason in reasons if reason), None)

    def external(self) -> tuple[str, ...]:
        """Published weights of all parts."""
        return tuple(n for part in self.parts for n in getattr(part, "external", tuple)())

    def tokens_cut(self, condition: Condition) -> int:
        """Of the part that reads least of the prompt."""
        counts = [getattr(part, "tokens_cut", None) for part in self.parts]
        return max((count(condition) for count in counts if count), default=0)

    def doubt(self) -> str:
        """Of all parts."""
        said = (getattr(part, "doubt", str)() for part in self.parts)
        return "; ".join(filter(None, said))

    def weights(self) -> dict[str, str]:
        """Of the parts, and their versions: a part that computes something else is another sum."""
        found = {}
        for k, (text, part) in enumerate(zip(self.params.rewards, self.parts, strict=True)):
            name = text.partition(";")[0].partition(":")[0]
            found[f"{k} version"] = plugins.version_of("rewards", name)
            found |= {f"{k} {file}": sha for file, sha in part.weights().items()}
        return found


Signature = Literal["score", "batch", "model"]


@dataclass(frozen=True)
class CallableParams(PromptedParams):
    """The callable and how it is called."""

    function: str = param("", tunable=False, help="module:attribute")
    signature: Signature = param(
        "score",
        tunable=False,
        help="score: f(pixels, prompts); batch: f(images, prompts, metadata) -> (scores, info); "
        "model: f(prompt=, image=) -> object with .rewards",
    )
    images: Literal["float", "uint8"] = param(
        "float", tunable=False, help="for signature=batch: float in [0, 1] or uint8, both NCHW"
    )
    factory: bool = param(False, tunable=False, help="call the attribute once to get the callable")
    gradient: bool = param(False, tunable=False, help="gradients pass through the callable")

    def __post_init__(self) -> None:
        if ":" not in self.function:
            raise ValueError("name it as callable:function=module:attribute")
        if self.gradient and (self.signature == "model" or self.images == "uint8"):
            raise ValueError("gradients do not pass through 8-bit images")


class PythonCallable(PromptedReward[CallableParams]):
    """Any Python function or class of yours, under the three signatures in use.

    score: f(pixels, prompts) with pixels (n, 3, h, w) in [0, 1]; batch: f(images, prompts,
    metadata) -> (scores, info); model: f(prompt=[...], image=[PIL images]) -> object with
    `.rewards`.  What is no picture, such as vectors, is handed over as the task has it, in its own
    range; model and images=uint8 refuse it.  The module's source file decides the cell id, and so
    do those of the local modules that it imports (`bench.core.local_source`).
    """

    Params = CallableParams
    scales: ClassVar[dict[str, Scale]] = {"": Scale("as the callable defines it")}

    def __init__(self, params: CallableParams) -> None:
        super().__init__(params)
        vars(self)["differentiable"] = params.gradient

    @cached_property
    def function(self) -> Any:
        """The callable; a class is instantiated without arguments."""
        module, _, name = self.params.function.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"cannot load '{self.params.function}': {error}") from error
        return found() if self.params.factory or inspect.isclass(found) else found

    def compatible(self, task: Task[Any]) -> str | None:
        # Whether prompts are needed is the callable's affair: without any it gets empty ones.
        reason = super(PromptedReward, self).compatible(task)
        takes_pictures = self.params.signature == "model" or self.params.images == "uint8"
        return reason if takes_pictures else None

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return self.score_pairs(x, [self._said(condition)] * len(x))

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        return self.score_pairs(x, conditions.each_row(self._said))

    def _said(self, condition: Condition) -> str:
        return self.params.prompt or ("" if condition is None else str(condition))

    def score_pairs(self, x: Tensor, prompts: list[str]) -> Tensor:
        """Scores (n,) of pictures (n, 1 or 3, height, width) or of anything else, with prompts."""
        pixels = self.unit(x) if x.dim() == 4 and x.shape[1] in (1, 3) else x.float()
        if not self.params.gradient:
            pixels = pixels.detach()
        call = {"score": self._score, "batch": self._batch, "model": self._model}
        scores = call[self.params.signature](pixels, prompts)
        found = torch.as_tensor(scores, device=x.device).float()
        if found.shape != (len(x),):
            raise UserError(
                f"{self.params.function} returned shape {tuple(found.shape)} for {len(x)} samples"
            )
        return found

    def _score(self, pixels: Tensor, prompts: list[str]) -> Any:
        return self.function(pixels, prompts)

    def _batch(self, pixels: Tensor, prompts: list[str]) -> Any:
        images = _bytes(pixels) if self.params.images == "uint8" else pixels
        return self.function(images, prompts, [{} for _ in prompts])[0]

    def _model(self, pixels: Tensor, prompts: list[str]) -> Any:
        shown = _bytes(pixels).permute(0, 2, 3, 1).cpu().numpy()
        images = [pillow().fromarray(picture) for picture in shown]
        return self.function(prompt=prompts, image=images).rewards

    def weights(self) -> dict[str, str]:
        module, _, name = self.params.function.partition(":")
        try:
            found, known = digest_of(module), names_in(module)
        except (ModuleNotFoundError, SyntaxError) as error:
            raise UserError(f"cannot load '{self.params.function}': {error}") from error
        if known is not None and name not in known:
            raise UserError(f"the module '{module}' has no '{name}': {nearest(name, known)}")
        return {self.params.function: found}


def _bytes(pixels: Tensor) -> Tensor:
    return pixels.mul(255).round().clamp(0, 255).to(torch.uint8)
