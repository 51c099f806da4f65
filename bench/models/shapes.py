"""The networks of the `shapes` world, loaded from the shipped weights.

They know class labels only.  A prompt reaches them as its noun; colour, size, place, number and
background can come from a reward alone.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from bench.core.params import UserError
from bench.core.protocols import Condition
from bench.models import weights
from bench.models.autoencoder import Autoencoder
from bench.models.conditional import ConditionalFlow, ConditionalMap
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
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


class PromptedFlow(ConditionalFlow):
    """The base flow under prompts, of which it hears the noun."""

    def __init__(self, net: FlowNet, guidance: float = 1.0) -> None:
        super().__init__(net, label_of, guidance)


class PromptedMap(ConditionalMap):
    """The meta flow map under prompts, of which it hears the noun."""

    def __init__(self, net: MetaFlowMapNet, guidance: float = 1.0) -> None:
        super().__init__(net, label_of, guidance)
