"""Coloured shapes: a latent flow that knows class labels only, and prompts that ask for more."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from bench.api import Condition, Flow, MetaFlowMap, Reference, Reward, Task, following, param
from bench.models import shapes, weights
from bench.models.autoencoder import Code
from bench.models.shapes_render import pictures

REPORT = (
    "a red circle on a white background",
    "a large blue triangle on the left",
    "a small yellow square on the right on a black background",
    "two green crosses side by side",
)
TUNE = (
    "a green square on a black background",
    "a large yellow circle on the right",
    "a small red cross in the middle on a white background",
    "two red triangles side by side",
)
"""Prompts to tune on; no prompt and no (colour, shape) pair of the report is among them."""

SEEDS = {"train": 11, "held-out": 12, "report": 13}
ROWS = 4000
REFERENCE_ROWS = (8_000, 16_000)
ENOUGH = 500
"""Effective renders with which a reference is large enough."""
ZOOM = 2


class _Real(NamedTuple):
    x: Tensor
    label: Tensor


@cache
def _real(split: str, rows: int) -> _Real:
    """Renders of a split, a function of its seed."""
    x, scenes = pictures(rows, SEEDS.get(split, SEEDS["report"]))
    return _Real(x, scenes.shape)


@cache
@torch.no_grad()
def _codes() -> Code:
    """The training renders, encoded once."""
    x = _real("train", ROWS).x
    return following(shapes.autoencoder(), x).encode(x)


def _heaviest(x: Tensor, weight: Tensor) -> Reference:
    """The rows that carry 99.9 % of the weight."""
    ordered = weight.sort(descending=True)
    kept = int((ordered.values.cumsum(0) < 0.999).sum()) + 1
    share = ordered.values[:kept] / ordered.values[:kept].sum()
    return Reference(x[ordered.indices[:kept]], share.float())


@dataclass(frozen=True)
class ShapesParams:
    """How strongly flow and map follow the label."""

    guidance: Literal["none", "model"] = param(
        "none",
        tunable=False,
        help="none: the honest class-conditional law; model: the velocity of scale 2.5, learnt",
    )


class Shapes(Task[ShapesParams]):
    """Rendered shapes at 32x32; the prompt's noun is all that the flow and the map are told.

    The flow lives in 16 latents of a small autoencoder; rewards and metrics see 3 x 32 x 32
    pictures in [-1, 1].
    """

    summary = "a flow trained on rendered coloured shapes"
    noun = "image"
    Params = ShapesParams
    metrics = (
        "reward",
        "reward-excess",
        "judge",
        "prompt-match",
        "class-agreement",
        "mmd2-pixels",
        "free-entropy",
        "diversity",
        "vendi",
        "modes",
        "tilt-size",
        "brightness",
        "saturation",
        "high-frequency",
        "compressed-size",
    )
    world = "bench.worlds.shapes:WORLD"
    event_shape = shapes.LATENT_SHAPE

    @property
    def data_shape(self) -> tuple[int, ...]:
        return shapes.DATA_SHAPE

    @property
    def _scale(self) -> float:
        return shapes.GUIDED_SCALE if self.params.guidance == "model" else 1.0

    @cached_property
    def flow(self) -> Flow:  # type: ignore[override]
        """The trained flow."""
        return shapes.PromptedFlow(shapes.flow(), self._scale)

    def trainable_flow(self) -> shapes.PromptedFlow:
        """A copy of the trained flow."""
        return shapes.PromptedFlow(copy.deepcopy(shapes.flow()), self._scale)

    @cached_property
    def flow_map(self) -> MetaFlowMap:  # type: ignore[override]
        """The trained meta flow map."""
        return shapes.PromptedMap(shapes.meta_flow_map(), self._scale)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, 16) to pictures (n, 3, 32, 32)."""
        return following(shapes.autoencoder(), z).decode(z)

    def weights(self) -> dict[str, str]:
        return weights.hashes("shapes")

    def training(self) -> dict[str, float]:
        return weights.training("shapes")

    def conditions(self, split: str) -> list[Condition]:
        return list(TUNE if split == "tune" else REPORT)

    def has_data(self, split: str) -> bool:
        return True

    def data(self, split: str) -> Tensor:
        return _real(split, ROWS).x

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents of the training renders, each time drawn anew from their codes."""
        codes = _codes()
        return codes.pick(torch.randint(len(codes.mean), (n,), generator=generator), generator)

    def draw_data_under(self, condition: Condition, n: int, generator: torch.Generator) -> Tensor:
        """Of renders of the prompt's class, which is what the flow hears of it."""
        label, codes = shapes.label_of(condition), _codes()
        if label is None:
            return self.draw_data(n, generator)
        rows = (_real("train", ROWS).label == label).nonzero()[:, 0].to(codes.mean.device)
        return codes.pick(rows[torch.randint(len(rows), (n,), generator=generator)], generator)

    @torch.no_grad()
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        """Renders of the prompt's class, weighted by e^(strength * reward).

        Renders are endless: more are made while too few carry the weight, up to 4,000 of a class;
        those that together carry a thousandth of it are left out.
        """
        label = shapes.label_of(condition)
        for rows in REFERENCE_ROWS:
            real = _real("reference", rows)
            x = real.x if label is None else real.x[real.label == label]
            weight = (strength * reward(x, condition).double()).softmax(0)
            if float(1 / weight.square().sum()) >= ENOUGH:
                break
        return _heaviest(x, weight)

    def render(self, x: Tensor) -> Tensor:
        """Every pixel as 2x2, so that 32x32 can be seen."""
        levels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        return levels.repeat_interleave(ZOOM, 1).repeat_interleave(ZOOM, 2).contiguous()
