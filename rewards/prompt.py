"""How well a drawing fits a sentence: the reward of text-to-image alignment, in small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bench.api import Condition, Reward, RowConditions, Task, UserError, following, param
from bench.models import clip_small, shapes_judge, weights
from bench.models.shapes import DATA_SHAPE
from bench.models.shapes_prompts import parse
from rewards.pictures import Scale


@dataclass(frozen=True)
class PromptParams:
    """In which unit the fit is given."""

    unit: Literal["cosine", "logit"] = param(
        "cosine", tunable=False, help="cosine in [-1, 1], or times the learnt logit scale"
    )


class Prompt(Reward[PromptParams]):
    """Cosine of picture and sentence in a small CLIP; the condition is the sentence.

    r(x) = <f(x), g(prompt)> with unit vectors f and g, in [-1, 1] (unit=cosine), or that times the
    learnt logit scale (unit=logit), which is a log density ratio log p(prompt | x) / p(prompt) up
    to a constant (Radford et al., arXiv 2103.00020).  The CLIP is differentiable, saw clean and
    noisy renders only, and can be fooled; the judge cannot: it measures every attribute from pixels
    and gives the share of those asked for that are right, in [0, 1].
    """

    Params = PromptParams
    learned = True
    scales: ClassVar[dict[str, Scale]] = {
        "cosine": Scale("cosine", -1, 1),
        "logit": Scale("cosine times logit scale"),
    }

    @property
    def scale(self) -> Scale:
        """At these parameters."""
        return self.scales[self.params.unit]

    def labelled(self) -> dict[str, Any]:
        """What every label says."""
        return {"unit": self.params.unit}

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        clip = following(clip_small.small_clip(), x)
        cosine = clip.image(x.float()) @ self._text(condition).to(x.device)
        return cosine * (clip.logit_scale if self.params.unit == "logit" else 1.0)

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        clip = following(clip_small.small_clip(), x)
        texts = torch.stack([self._text(c).to(x.device) for c in conditions.conditions])
        cosine = (clip.image(x.float()) * texts[conditions.index(x.device)]).sum(-1)
        return cosine * (clip.logit_scale if self.params.unit == "logit" else 1.0)

    def _text(self, condition: Condition) -> Tensor:
        if not isinstance(condition, str):
            raise UserError(f"the reward 'prompt' needs a sentence as condition, not {condition!r}")
        return clip_small.text_features(condition)

    @torch.no_grad()
    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        """Share of the attributes asked for that the drawing has, as measured from its pixels."""
        return shapes_judge.measure(x).agreement(parse(str(condition))).to(x.device)

    def compatible(self, task: Task[Any]) -> str | None:
        if tuple(task.data_shape) != DATA_SHAPE:
            return f"it reads 32x32 drawings, and the task's samples have shape {task.data_shape}"
        if not all(isinstance(task.sentence(c), str) for c in task.conditions("report")):
            return "it needs prompts, and the task's conditions are none"
        return None

    def weights(self) -> dict[str, str]:
        return weights.hashes("shapes")
