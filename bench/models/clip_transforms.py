"""How pictures are prepared for the weights of a CLIP: size, proportions, mean and deviation.

The architecture does not say it: weights of one architecture were trained with other means, and
some with stretched pictures.  What is written beside the file decides, else what all published
weights of the architecture share; where they part, there is a doubt that is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench.core.params import UserError
from bench.models import external
from bench.models.preprocess import CLIP_MEAN, CLIP_STD, Fit, Interpolation

RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which transformers writes."""

CONFIGURATIONS = ("open_clip_config.json", "preprocessor_config.json")
"""What open_clip and transformers write beside weights; the first one decides."""


@dataclass(frozen=True)
class Transform:
    """Everything but the size, which the network knows."""

    fit: Fit = "shortest"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    interpolation: Interpolation = "bicubic"


def transform_of(name: str, path: Path, clip: Any) -> tuple[Transform, str]:
    """The transform of a file in the model `name` of open_clip, and a doubt about it or "".

    `clip` is the package open_clip.
    """
    written = next(_written_beside(path), None)
    if written is not None:
        return written, ""
    tags = clip.list_pretrained_tags_by_model(name)
    published = {_of_open_clip(clip.get_pretrained_cfg(name, tag)) for tag in tags}
    if len(published) > 1:
        doubt = (
            f"published weights of {name} prepare pictures in {len(published)} ways and nothing "
            f"beside {path.name} says which is its own: put its open_clip_config.json there"
        )
        return Transform(), doubt
    return next(iter(published), Transform()), ""


def beside(path: Path, *names: str) -> dict[str, str]:
    """SHA-256 of the configurations beside some weights: scores depend on them as on the weights.

    Names default to those that decide how a CLIP reads pictures.
    """
    files = {name: path.with_name(name) for name in names or CONFIGURATIONS}
    return {name: external.file_digest(file) for name, file in files.items() if file.is_file()}


def _written_beside(path: Path) -> Iterator[Transform]:
    own, theirs = (read_json(path.with_name(name)) for name in CONFIGURATIONS)
    if isinstance(settings := own.get("preprocess_cfg"), dict):
        yield _of_open_clip(settings)
    if "image_mean" in theirs:
        yield _of_transformers(theirs)


def _of_open_clip(settings: dict[str, Any]) -> Transform:
    plain = Transform()
    return Transform(
        settings.get("resize_mode") or plain.fit,
        tuple(settings.get("mean") or plain.mean),
        tuple(settings.get("std") or plain.std),
        settings.get("interpolation") or plain.interpolation,
    )


def _of_transformers(settings: dict[str, Any]) -> Transform:
    fit: Fit = "shortest" if settings.get("do_center_crop", False) else "squash"
    resampling = RESAMPLING.get(settings.get("resample", 3), "bicubic")
    return Transform(fit, tuple(settings["image_mean"]), tuple(settings["image_std"]), resampling)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, {} without one; UserError for what is no JSON."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): mend it or take it away") from error
    return cast(dict[str, Any], content) if isinstance(content, dict) else {}
