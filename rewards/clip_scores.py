"""Scores from CLIP models: agreement with a prompt, human preference, aesthetics.

All run on open_clip with weights from a local file, differentiate from the score to the pixels,
and compute the features of a prompt once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from bench.api import Accuracy, Condition, RowConditions, Task, Unbuilt, UserError, param
from bench.models import clip, external
from bench.models.activations import Asked
from bench.models.clip import ClipModel, Precision
from bench.models.clip_transforms import beside
from bench.models.preprocess import Fit
from rewards import accuracies
from rewards.pictures import PictureParams, PictureReward, PromptedParams, PromptedReward, Scale


@dataclass(frozen=True)
class NetworkParams(PromptedParams):
    """A prompt, a weight file and a precision."""

    weights: str = param(
        "", tunable=False, help="path of the weights; default: the prefetched ones"
    )
    precision: Precision = param(
        "float32", tunable=False, help="of the network; scores are float32"
    )


def activation_param() -> Asked:
    """A field that says what the weights of a file were trained with."""
    made: Asked = param(
        "",
        tunable=False,
        decides=False,
        help="gelu or quick-gelu: what the weights of a file of yours were trained with",
    )
    return made


NetworkP = TypeVar("NetworkP", bound=NetworkParams)


class ClipReward(PromptedReward[NetworkP]):
    """Cosine of picture and prompt in a CLIP model, times `factor`."""

    version = "2"
    learned = True
    architecture: ClassVar[str] = "ViT-H-14"
    activation: ClassVar[Asked] = "gelu"
    fit: ClassVar[Fit | None] = None

    def model_name(self) -> str:
        """open_clip's name of the architecture."""
        return self.architecture

    @cached_property
    def path(self) -> Path:
        """The weight file."""
        return external.locate(self.external()[0], self.params.weights)

    def asked_activation(self) -> Asked:
        """What is known of the weights without looking at the file."""
        return self.activation

    def doubt(self) -> str:
        return clip.doubts(self.model_name(), self.path, self.asked_activation(), self.fit)

    def model(self, like: Tensor) -> ClipModel:
        """The frozen model on the device of the pictures."""
        how = self.params.precision, self.fit, self.asked_activation()
        found = clip.load_clip(self.model_name(), self.path, *how)
        loaded: ClipModel = found.to(like.device)
        return loaded

    def factor(self, model: ClipModel) -> float:
        """What the cosine is multiplied by."""
        return 1.0

    def unbuilt(self, task: Task[Any]) -> tuple[Unbuilt, ...]:
        net = clip.make_clip(self.model_name(), "meta")

        def make() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
            model = ClipModel(net, self.model_name(), self.fit)
            return model.image, (torch.zeros(2, *task.data_shape, device="meta"),)

        return (make,)

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        model = self.model(x)
        cosine = model.image(self.unit(x)) @ model.text(self.prompt(condition))
        return cosine * self.factor(model)

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        model, index = self.model(x), conditions.index(x.device)
        texts = torch.stack([model.text(self.prompt(c)) for c in conditions.conditions])
        cosine = (model.image(self.unit(x)) * texts[index]).sum(-1)
        return cosine * self.factor(model)

    def tokens_cut(self, condition: Condition) -> int:
        return clip.tokens_cut(self.model_name(), self.prompt(condition))

    def weights(self) -> dict[str, str]:
        return {self.external()[0]: external.file_digest(self.path), **beside(self.path)}


@dataclass(frozen=True)
class HPSParams(NetworkParams):
    """Which release."""

    release: Literal["v2.0", "v2.1"] = param(
        "v2.1", tunable=False, help="the two are not comparable"
    )


class HPSv2(ClipReward[HPSParams]):
    """Human Preference Score v2: the cosine in a fine-tuned CLIP ViT-H-14 (arXiv 2306.09341).

    r(x) = <f(x), g(prompt)> with unit vectors, in [-1, 1] and typically 0.2 to 0.35, as the
    package's `score` returns it: no logit scale and no factor 100.  The picture's longest side
    becomes 224 (bicubic, antialiased) and black pads it to a square.  x is (n, 3, height, width).
    Published numbers are often 100 r, and those of v2.0 and v2.1 are not comparable.
    """

    Params = HPSParams
    fit: ClassVar[Fit | None] = "longest"
    said = ("release",)
    scales: ClassVar[dict[str, Scale]] = {"": Scale("cosine", 0.2, 0.35)}

    def external(self) -> tuple[str, ...]:
        return (f"hpsv2-{self.params.release[1:]}",)

    def accuracies(self) -> tuple[Accuracy, ...]:
        return accuracies.HPS_V20 if self.params.release == "v2.0" else ()


@dataclass(frozen=True)
class UnitParams(NetworkParams):
    """In which unit the agreement is given."""

    unit: Literal["cosine", "logit"] = param(
        "logit", tunable=False, help="cosine, or cosine times the learnt logit scale"
    )


class PickScore(ClipReward[UnitParams]):
    """PickScore: preference of Pick-a-Pic users, in a fine-tuned CLIP ViT-H-14 (arXiv 2305.01569).

    r(x) = s <f(x), g(prompt)> with the learnt logit scale s = 100, typically 18 to 24
    (unit=logit, the paper's scale), or the cosine alone (unit=cosine).  Others divide by 26 or
    negate it: compare raw scores only.  The shortest side becomes 224 and the middle is kept.
    """

    Params = UnitParams
    fit: ClassVar[Fit | None] = "shortest"
    said = ("unit",)
    scales: ClassVar[dict[str, Scale]] = {
        "cosine": Scale("cosine", 0.18, 0.24),
        "logit": Scale("cosine times logit scale", 18, 24),
    }

    def external(self) -> tuple[str, ...]:
        return ("pickscore",)

    def accuracies(self) -> tuple[Accuracy, ...]:
        return accuracies.PICKSCORE

    def scale_name(self) -> str:
        return self.params.unit

    def factor(self, model: ClipModel) -> float:
        return model.logit_scale if self.params.unit == "logit" else 1.0


@dataclass(frozen=True)
class CLIPParams(UnitParams):
    """Which model of open_clip."""

    unit: Literal["cosine", "logit"] = param(
        "cosine", tunable=False, help="cosine, or cosine times the learnt logit scale"
    )
    model: str = param("ViT-B-32", tunable=False, help="a model of open_clip")
    activation: Asked = activation_param()


KNOWN_CLIPS = {
    "ViT-B-32": "clip-vit-b-32",
    "ViT-L-14-quickgelu": "clip-vit-l-14",
    "ViT-L-14-336-quickgelu": "clip-vit-l-14-336",
}
"""Models whose weights `bench prefetch` knows; others need weights=PATH."""


class CLIPScore(ClipReward[CLIPParams]):
    """Agreement of picture and prompt in any CLIP of open_clip (arXiv 2103.00020, 2104.08718).

    r(x) = <f(x), g(prompt)> in [-1, 1], typically 0.15 to 0.35 (unit=cosine), or that times the
    learnt logit scale (unit=logit), a log density ratio up to a constant.  CLIPScore is
    2.5 max(r, 0): a monotone function of the cosine, whose gradient dies below zero.
    """

    Params = CLIPParams
    said = ("model", "unit")
    scales: ClassVar[dict[str, Scale]] = {
        "cosine": Scale("cosine", 0.15, 0.35),
        "logit": Scale("cosine times logit scale", 15, 35),
    }

    def model_name(self) -> str:
        return self.params.model

    def asked_activation(self) -> Asked:
        return self.params.activation

    def accuracies(self) -> tuple[Accuracy, ...]:
        return accuracies.CLIP_H if self.params.model == "ViT-H-14" else ()

    def external(self) -> tuple[str, ...]:
        known = KNOWN_CLIPS.get(self.params.model)
        if known is None and not self.params.weights:
            raise UserError(
                f"no weights are known for '{self.params.model}': give weights=PATH, or one of "
                f"{', '.join(KNOWN_CLIPS)}"
            )
        return (known or self.params.model,)

    def scale_name(self) -> str:
        return self.params.unit

    def factor(self, model: ClipModel) -> float:
        return model.logit_scale if self.params.unit == "logit" else 1.0


@dataclass(frozen=True)
class AestheticParams(PictureParams):
    """The head, the CLIP below it, and a precision."""

    head: str = param("", tunable=False, help="path of the head; default: the prefetched one")
    weights: str = param("", tunable=False, help="path of the CLIP; default: the prefetched one")
    model: str = param("ViT-L-14-quickgelu", tunable=False, help="the CLIP's name in open_clip")
    activation: Asked = activation_param()
    precision: Precision = param(
        "float32", tunable=False, help="of the network; scores are float32"
    )


class Aesthetic(PictureReward[AestheticParams]):
    """LAION's aesthetic score: linear layers on the unit features of CLIP ViT-L/14.

    r(x) = A f(x) + b, typically 4 to 7 on a scale of 1 to 10 (Schuhmann, 2022: the improved
    aesthetic predictor).  Its five layers have no activation between them, so they are one affine
    map; heads of a single layer are read, too.  It sees no prompt.
    """

    Params = AestheticParams
    version = "2"
    learned = True
    scales: ClassVar[dict[str, Scale]] = {"": Scale("rating", 4, 7)}

    def external(self) -> tuple[str, ...]:
        return ("aesthetic", "clip-vit-l-14")

    def accuracies(self) -> tuple[Accuracy, ...]:
        return accuracies.AESTHETIC

    @cached_property
    def paths(self) -> tuple[Path, Path]:
        """The head and the CLIP."""
        names, given = self.external(), (self.params.head, self.params.weights)
        head, body = (external.locate(*pair) for pair in zip(names, given, strict=True))
        return head, body

    def doubt(self) -> str:
        return clip.doubts(self.params.model, self.paths[1], self.params.activation)

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        head, body = self.paths
        how = self.params.precision, None, self.params.activation
        model: ClipModel = clip.load_clip(self.params.model, body, *how)
        features = model.to(x.device).image(self.unit(x))
        weight, bias = affine_head(head)
        return features @ weight.to(features) + bias.to(features)

    def score_rows(self, x: Tensor, conditions: RowConditions) -> Tensor:
        return self(x, None)

    def weights(self) -> dict[str, str]:
        paths = zip(self.external(), self.paths, strict=True)
        files = {name: external.file_digest(path) for name, path in paths}
        return files | beside(self.paths[1])


@cache
def affine_head(path: Path) -> tuple[Tensor, Tensor]:
    """A (d,) and b () of the composed linear layers of a head, in the order of their numbers."""
    state = {
        (name if "." in name else f"0.{name}"): value.double()
        for name, value in external.read_state(path).items()
    }
    stems = sorted({name.rpartition(".")[0] for name in state}, key=_number)
    if {f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")} != set(state):
        raise UserError(f"the head {path} is no stack of linear layers")
    weight = torch.eye(state[f"{stems[0]}.weight"].shape[1], dtype=torch.float64)
    bias = torch.zeros(len(weight), dtype=torch.float64)
    for stem in stems:
        bias = nn.functional.linear(bias, state[f"{stem}.weight"], state[f"{stem}.bias"])
        weight = state[f"{stem}.weight"] @ weight
    if len(weight) != 1:
        raise UserError(f"the head {path} gives {len(weight)} numbers, not one")
    return weight[0], bias[0]


def _number(stem: str) -> int:
    digits = "".join(c for c in stem if c.isdigit())
    return int(digits or 0)
