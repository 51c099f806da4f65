"""Which activation the weights of a CLIP were trained with: GELU, or its approximation quick-GELU.

    GELU(x) = x Phi(x),   quick-GELU(x) = x sigmoid(1.702 x)

Both networks have tensors of the same names and shapes, so that loading says nothing: with the
wrong one every score is a little off.  What is written beside the file decides; else it is asked
for, or there is a doubt that is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from bench.core.params import UserError
from bench.models import external
from bench.models.clip_transforms import read_json

Activation = Literal["gelu", "quick-gelu"]
Asked = Literal["", "gelu", "quick-gelu"]
"""What a user says of a file; nothing, by default."""

TWIN = "-quickgelu"
"""How open_clip ends the name of a model that has quick-GELU where its namesake has GELU."""

PUBLISHED: dict[str, Activation] = {
    "hpsv2-2.0": "gelu",
    "hpsv2-2.1": "gelu",
    "pickscore": "gelu",
    "clip-vit-b-32": "gelu",
    "clip-vit-l-14": "quick-gelu",
    "clip-vit-l-14-336": "quick-gelu",
}
"""Of the files that `bench prefetch` knows."""


def check(name: str, path: Path, clip: Any, asked: Asked = "") -> str:
    """A doubt about the weights of a file in the model `name` of open_clip, or "".

    `clip` is the package open_clip.  Raises UserError where the file or what was asked for says
    that it is the other activation.
    """
    config = clip.get_model_config(name) or {}
    own: Activation = "quick-gelu" if config.get("quick_gelu", False) else "gelu"
    twin = _twin(name, clip.list_models())
    if asked and asked != own:
        raise UserError(f"{name} has {own}, not {asked}: ask for {_other(twin, asked)}")
    written, where = written_beside(path)
    if written and written != own:
        raise UserError(
            f"the weights {path} are for {written} ({where}) and {name} has {own}: "
            f"ask for {_other(twin, written)}"
        )
    if asked or written or not twin:
        return ""
    return (
        f"nothing says whether {path.name} was trained with {own}, as {name} has, or for {twin}, "
        f"which has the same shapes: say it with activation={own}, or ask for model={twin}"
    )


def written_beside(path: Path) -> tuple[Activation | None, str]:
    """What the file's own name or a configuration beside it says, and where."""
    for known, activation in PUBLISHED.items():
        if external.entry(known).file == path.name:
            return activation, f"published as {known}"
    found = read_json(path.with_name("open_clip_config.json")).get("model_cfg")
    if isinstance(found, dict):
        return "quick-gelu" if found.get("quick_gelu", False) else "gelu", "open_clip_config.json"
    vision = read_json(path.with_name("config.json")).get("vision_config")
    if isinstance(vision, dict):  # quick_gelu is the default of transformers, which it leaves out
        quick = vision.get("hidden_act", "quick_gelu") == "quick_gelu"
        return "quick-gelu" if quick else "gelu", "config.json"
    return None, ""


def _twin(name: str, known: list[str]) -> str:
    """The model of the same shapes with the other activation; "" if there is none."""
    other = name.removesuffix(TWIN) if name.endswith(TWIN) else name + TWIN
    return other if other in known else ""


def _other(twin: str, activation: Activation) -> str:
    return f"model={twin}" if twin else f"a model with {activation}"
