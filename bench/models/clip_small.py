"""A CLIP small enough to ship, built by open_clip, for pictures of shapes and sentences on them.

Two towers map a picture and a sentence to unit vectors; their cosine times the learnt logit scale
approximates log p(sentence | picture) - log p(sentence) up to a constant, the optimum of the
contrastive loss.  So tilting by strength = logit scale asks for the pictures that p(. | sentence)
describes.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from bench.core.devices import following, wide
from bench.core.params import UserError
from bench.models import weights
from bench.models.shapes_prompts import COUNTS, PLURALS
from bench.models.shapes_render import BACKGROUNDS, COLOURS, SHAPES, SIDE, SIZES

_LITTLE = "a an in the on left middle right side by background"
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys(
        (*_LITTLE.split(), *COUNTS, *SIZES, *COLOURS, *SHAPES, *PLURALS.values(), *BACKGROUNDS)
    )
)
"""Every word of a prompt.  Token 0 pads; the largest ends a sentence, where open_clip pools."""

END = len(VOCABULARY) + 1
LENGTH = 14
EMBEDDING = 48
VISION = {"layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"layers": 1, "width": 64, "heads": 2}


def tokens(prompts: list[str]) -> Tensor:
    """Token ids (n, 14); a word outside the vocabulary is a UserError."""
    out = torch.zeros(len(prompts), LENGTH, dtype=torch.long)
    for row, prompt in zip(out, prompts, strict=True):
        words = re.findall(r"[a-z]+", prompt.lower())
        unknown = [word for word in words if word not in VOCABULARY]
        if unknown or len(words) >= LENGTH:
            raise UserError(
                f"the prompt '{prompt}' cannot be read: "
                + (f"'{unknown[0]}' is not a word it knows" if unknown else "it is too long")
            )
        ids = [VOCABULARY.index(word) + 1 for word in words]
        row[: len(ids) + 1] = torch.tensor([*ids, END])
    return out


class SmallCLIP(nn.Module):
    """Two transformer towers of open_clip over 8x8 patches and over words."""

    entrances: ClassVar = ("forward",)

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        clip = _open_clip()
        self.towers = clip.CLIP(
            embed_dim=EMBEDDING,
            vision_cfg=clip.CLIPVisionCfg(image_size=side, **VISION),
            text_cfg=clip.CLIPTextCfg(context_length=LENGTH, vocab_size=END + 1, **TEXT),
        )

    @property
    def logit_scale(self) -> float:
        """What a cosine is multiplied by in the contrastive loss."""
        return float(self.towers.logit_scale.detach().exp())

    def image(self, x: Tensor) -> Tensor:
        """Unit vectors (n, 48) of pictures in [-1, 1], which are not clipped."""
        out: Tensor = self.towers.encode_image(x, normalize=True)
        return out

    def text(self, ids: Tensor) -> Tensor:
        """Unit vectors (n, 48) of token ids."""
        out: Tensor = self.towers.encode_text(ids, normalize=True)
        return out

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        """Contrastive logits (pictures, sentences)."""
        logits: Tensor = self.towers.logit_scale.exp() * self.image(x) @ self.text(ids).T
        return logits


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise UserError(
            "prompts need open_clip: install the image packages, pip install 'tiltbench[images]'"
        ) from error
    return open_clip


@cache
def small_clip() -> SmallCLIP:
    """The shipped model, frozen.

    It stays in training mode, which changes nothing here (it has neither dropout nor batch norm),
    because torch's inference-only attention kernels are invisible to FLOP counting.
    """
    net = cast(SmallCLIP, weights.load_into(SmallCLIP(), "shapes", "clip"))
    return net.train()


@cache
def text_features(prompt: str) -> Tensor:
    """The unit vector (48,) of a prompt under the shipped model, computed once."""
    ids = tokens([prompt])
    with torch.no_grad(), wide():
        return following(small_clip(), ids).text(ids)[0]
