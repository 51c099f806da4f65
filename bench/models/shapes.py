"""The networks of the `shapes` world, loaded from the shipped weights.

They know class labels only.  A prompt reaches them as its noun; colour, size, place, number and
background can come from a reward alone.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from bench.core.conditions import RowConditions
from bench.core.params import UserError
from bench.core.protocols import Condition
from bench.models import weights
from bench.models.autoencoder import Autoencoder
from bench.models.meta_flow_map import FlowNet, Known, MetaFlowMapNet
from bench.models.nets import GUIDED_SCALE as GUIDED_SCALE
from bench.models.shapes_prompts import parse
from bench.models.shapes_render import SHAPES, SIDE

DATA_SHAPE = (3, SIDE, SIDE)
LATENTS, CODE_WIDTH, FLOW_WIDTH, MAP_WIDTH, DEPTH = 16, 512, 384, 384, 3
"""As in the recipe beside the weights."""
LATENT_SHAPE = (LATENTS,)


@cache
def autoencoder() -> Autoencoder:
    """Pictures to latents and back."""
    net = Autoencoder(DATA_SHAPE, LATENTS, CODE_WIDTH)
    return cast(Autoencoder, weights.load_into(net, "shapes", "code"))


@cache
def flow() -> FlowNet:
    """The class-conditional base flow of the latents."""
    net = FlowNet(LATENT_SHAPE, FLOW_WIDTH, DEPTH, len(SHAPES))
    return cast(FlowNet, weights.load_into(net, "shapes", "flow"))


@cache
def meta_flow_map() -> MetaFlowMapNet:
    """The class-conditional meta flow map distilled from the flow."""
    net = MetaFlowMapNet(LATENT_SHAPE, MAP_WIDTH, DEPTH, classes=len(SHAPES))
    return cast(MetaFlowMapNet, weights.load_into(net, "shapes", "map"))


@cache
def _noun(prompt: str) -> int:
    return parse(prompt)["shape"]


def label_of(condition: Condition) -> int | None:
    """The class of a prompt or a label; None for no condition."""
    if condition is None or (isinstance(condition, int) and 0 <= condition < len(SHAPES)):
        return condition
    if isinstance(condition, str):
        return _noun(condition)
    raise UserError(
        f"the condition {condition!r} is neither a prompt nor a class: give a sentence such as "
        f"'a red circle', or 0 to {len(SHAPES) - 1}"
    )


def known(condition: Condition, rows: Tensor, guidance: float) -> Known:
    """What the networks are told of a condition, for every row of times (batch,)."""
    if isinstance(condition, RowConditions):
        return _known_rows(condition, rows, guidance)
    label = label_of(condition)
    if label is None:
        return Known()
    scale = torch.full_like(rows, guidance)
    return Known(torch.full_like(rows, label, dtype=torch.long), scale)


def _known_rows(conditions: RowConditions, rows: Tensor, guidance: float) -> Known:
    """The same of a condition per row; no condition is the label past the last, at scale 1."""
    labels = [label_of(c) for c in conditions.conditions]
    index = conditions.index(rows.device)
    told = torch.tensor([len(SHAPES) if k is None else k for k in labels], device=rows.device)
    scales = torch.tensor([1.0 if k is None else guidance for k in labels]).to(rows)
    return Known(told[index], scales[index])


class PromptedFlow(nn.Module):
    """The base flow under prompts, of which it hears the noun."""

    hears_rows = True

    def __init__(self, net: FlowNet, guidance: float = 1.0) -> None:
        super().__init__()
        self.net, self.guidance = net, guidance
        self.event_shape, self.interpolant = net.event_shape, net.interpolant

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) given the prompt's class, shape of x."""
        return self.net.labelled(x, t, known(condition, t, self.guidance))

    forward = velocity


class PromptedMap:
    """The meta flow map under prompts, of which it hears the noun."""

    hears_rows = True

    def __init__(self, net: MetaFlowMapNet, guidance: float = 1.0) -> None:
        self.net, self.guidance = net, guidance

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x) given the prompt's class."""
        given = self.net.given(known(condition, s, self.guidance))
        return given.velocity(x_bar, s, u, x, t)

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The map of the base flow: the slice t = 0, where the context says nothing."""
        given = self.net.given(known(condition, s, self.guidance))
        return given.jump(x, s, u, torch.zeros_like(x), torch.zeros_like(s))
