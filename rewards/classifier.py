"""Any timm classifier as a reward."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from bench.api import Condition, Task, UserError, nearest, param
from bench.models import external
from bench.models.clip_transforms import beside, read_json
from bench.models.preprocess import Fit, Preprocess
from rewards.pictures import PictureParams, PictureReward, Scale


@dataclass(frozen=True)
class ClassifierParams(PictureParams):
    """The network, its weights and the class."""

    model: str = param("resnet18", tunable=False, help="a model of timm")
    weights: str = param("", tunable=False, help="path of its weights")
    label: int = param(-1, low=-1, tunable=False, help="the class; -1 takes the condition")
    classes: int = param(1000, low=2, tunable=False, help="classes that the weights know")


class Classifier(PictureReward[ClassifierParams]):
    """log p(label | x) of a timm classifier: ask for one class of pictures.

    r(x) = log softmax f(x)[label], at most 0; at strength 1 its tilted law is p(x | label) if the
    classifier is calibrated.  Pictures are prepared by timm's transform for evaluation: of the
    configuration beside the weights (config.json), or of the model's own.
    """

    learned = True
    Params = ClassifierParams
    version = "2"
    said = ("model", "label")
    scales: ClassVar[dict[str, Scale]] = {"": Scale("log-probability", high=0)}

    @cached_property
    def path(self) -> Path:
        """The weight file."""
        if not self.params.weights:
            raise UserError(
                f"the classifier needs its weights: classifier:model={self.params.model},"
                "weights=PATH"
            )
        return external.locate("", self.params.weights)

    def compatible(self, task: Task[Any]) -> str | None:
        reason = super().compatible(task)
        if reason is None and self.params.label < 0:
            labelled = all(isinstance(c, int) for c in task.conditions("report"))
            reason = None if labelled else "it needs a class: give one with label=..."
        return reason

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        label = condition if self.params.label < 0 else self.params.label
        if not isinstance(label, int) or not 0 <= label < self.params.classes:
            raise UserError(f"the classifier knows labels 0 to {self.params.classes - 1}: {label}")
        net, shape = load_classifier(self.params.model, self.path, self.params.classes)
        logits: Tensor = net.to(x.device)(shape(self.unit(x)))
        return logits.float().log_softmax(-1)[:, label]

    def highest(self, task: Task[Any]) -> float:
        return 0.0

    def weights(self) -> dict[str, str]:
        return {self.params.model: external.file_digest(self.path), **beside(self.path, CONFIG)}

    def doubt(self) -> str:
        return doubt_of(self.params.model, self.path)


CONFIG = "config.json"
"""What timm writes beside weights."""


def load_classifier(name: str, path: Path, classes: int) -> tuple[Any, Preprocess]:
    """The frozen network and its preprocessing, made once per file and configuration."""
    digests = external.file_digest(path), *beside(path, CONFIG).values()
    return _load(name, path, digests, classes)


@cache
def _load(name: str, path: Path, _digests: tuple[str, ...], classes: int) -> tuple[Any, Preprocess]:
    try:
        import timm
    except ImportError as error:
        raise UserError("classifier needs timm: pip install 'tiltbench[images]'") from error
    if not timm.is_model(name):
        raise UserError(f"timm has no model '{name}': {nearest(name, timm.list_models())}")
    net = timm.create_model(name, pretrained=False, num_classes=classes)
    external.load_strictly(net, external.read_state(path), path)
    own = read_json(path.with_name(CONFIG)).get("pretrained_cfg")
    config = {"pretrained_cfg": own} if isinstance(own, dict) else {"model": net}
    if doubt := doubt_of(name, path):
        warnings.warn(doubt, stacklevel=2)
    shape = evaluation_transform(timm.data.resolve_data_config({}, **config), name)
    return net.requires_grad_(False).eval(), shape


READ = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")
"""What of timm's configuration decides how pictures are prepared."""


def doubt_of(name: str, path: Path) -> str:
    """A doubt about which of the published weights of a model a file is, or "".

    resnet18 alone stands for seven, of which some keep 0.875 of the side and some 0.95.
    """
    import timm

    tags = [] if "." in name else timm.list_pretrained(f"{name}.*")
    known = (timm.get_pretrained_cfg(tag).to_dict() for tag in tags)
    ways = {tuple(config.get(key) for key in READ) for config in known}
    if len(ways) < 2 or isinstance(read_json(path.with_name(CONFIG)).get("pretrained_cfg"), dict):
        return ""
    return (
        f"published weights of {name} prepare pictures in {len(ways)} ways and nothing beside "
        f"{path.name} says which is its own: put its {CONFIG} there, or name it as in "
        f"model={tags[0]}"
    )


FITS: dict[str, Fit] = {"center": "shortest", "squash": "squash", "border": "longest"}
"""timm's crop modes."""


def evaluation_transform(settings: dict[str, Any], name: str) -> Preprocess:
    """timm's transform for evaluation, from its configuration of the weights."""
    height, width = settings["input_size"][-2:]
    mode = settings.get("crop_mode") or "center"
    if height != width or mode not in FITS or settings.get("crop_border_pixels"):
        raise UserError(
            f"{name} reads pictures of {height}x{width} cut by '{mode}', which is not known here: "
            f"use a model with squares and one of {', '.join(FITS)}"
        )
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    fill = tuple(round(255 * value) / 255 for value in mean)
    how = settings["interpolation"], settings["crop_pct"] or 0.875
    return Preprocess(height, FITS[mode], mean, std, *how, fill if mode == "border" else (0, 0, 0))
