"""What the classes of ImageNet are called, and the sentences that papers make of a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.core.params import UserError
from bench.models.clip import open_clip


@dataclass(frozen=True)
class Wording:
    """A sentence about a class."""

    summary: str
    template: str

    def __call__(self, name: str) -> str:
        """The sentence of a class name."""
        return self.template.format(name)


WORDINGS: Mapping[str, Wording] = {
    "steering": Wording(
        "that of the steering experiment of arXiv 2601.14430, 7.2.2",
        "A high-quality, high-resolution photograph of a {}.",
    ),
    "fine-tuning": Wording(
        "that of its fine-tuning, 7.2.3; the release's words in this order also steer",
        "A high-resolution, high-quality photograph of a {}",
    ),
    "plain": Wording("that of CLIP's zero-shot classification", "a photo of a {}."),
}


def class_name(label: int) -> str:
    """The name of a class: those that CLIP's authors chose, "tabby cat" for 281.

    UserError for a label that is none.
    """
    names: list[str] = open_clip().IMAGENET_CLASSNAMES
    if label not in range(len(names)):
        raise UserError(f"ImageNet has no class {label}: labels run from 0 to {len(names) - 1}")
    return names[label]
