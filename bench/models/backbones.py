"""Networks for pictures by name, or a class of one's own: what stands inside a flow or a map.

A backbone is a torch module that is made from a `BackboneSpec` and called as

    net(x, times, label, scale) -> (batch, *event_shape)

with x (batch, parts, *event_shape): the state, and for a map the context after it; times, a
sequence of (batch,) tensors; label (batch,) long or None, `classes` meaning none; scale (batch,)
of guidance or None.  Backbones are differentiated forward as well (JVPs of some objectives).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from bench.core.params import UserError, nearest
from bench.models.dit_layers import DiTBlock, FinalLayer, exact_attention, position_table
from bench.models.nets import LabelEmbedding, Modulated, time_embedding

MLP = "mlp"
"""The residual MLP of the small worlds, which knows the Gaussian model of the data."""


@dataclass(frozen=True)
class BackboneSpec:
    """What a backbone is made for; width and depth are those of a recipe."""

    event_shape: tuple[int, ...]
    parts: int
    times: int
    width: int
    depth: int
    classes: int

    def picture(self, network: str) -> tuple[int, int, int]:
        """(channels, height, width); UserError for data of another shape."""
        if len(self.event_shape) != 3:
            raise UserError(
                f"the network '{network}' is for pictures (channels, height, width), and the data "
                f"are {self.event_shape}: take the network '{MLP}'"
            )
        channels, height, width = self.event_shape
        return channels, height, width


class ConvBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))) (1 + scale) + shift)); the identity at the start."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        groups = next(g for g in (8, 4, 2, 1) if width % g == 0)
        self.before, self.after = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.outer = _zero(nn.Conv2d(width, width, 3, padding=1))
        self.modulation = nn.Linear(condition, 2 * width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        hidden = self.inner(nn.functional.silu(self.before(x)))
        hidden = nn.functional.silu(self.after(hidden) * (1 + scale) + shift)
        out: Tensor = x + self.outer(hidden)
        return out


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class UNet(Modulated):
    """Convolutions at halved sides and back, `depth` blocks at each, with skips between.

    Sides are halved while they are even and at least 8, at most three times; the width doubles at
    the first halving.
    """

    CONDITION = 128

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        channels, height, width = spec.picture("unet")
        self.embed = time_embedding(spec.times, self.CONDITION)
        self.labels = LabelEmbedding(spec.classes, self.CONDITION) if spec.classes else None
        sizes, side = [spec.width], min(height, width)
        while len(sizes) < 4 and side >= 8 and not (height % 2 or width % 2):
            height, width, side = height // 2, width // 2, side // 2
            sizes.append(2 * spec.width)
        self.enter = nn.Conv2d(spec.parts * channels, sizes[0], 3, padding=1)
        self.down = nn.ModuleList(self._blocks(w, spec.depth) for w in sizes)
        pairs = list(pairwise(sizes))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(self._blocks(w, spec.depth) for w in sizes[:-1])
        self.norm = nn.GroupNorm(1, sizes[0])
        self.leave = _zero(nn.Conv2d(sizes[0], channels, 3, padding=1))

    def _blocks(self, width: int, depth: int) -> nn.ModuleList:
        return nn.ModuleList(ConvBlock(width, self.CONDITION) for _ in range(depth))

    def forward(
        self,
        x: Tensor,
        times: Sequence[Tensor],
        label: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        condition, skips = self.conditioning(times, label, scale), []
        hidden = self.enter(x.flatten(1, 2))
        for level, blocks in enumerate(self.down):
            for block in _listed(blocks):
                hidden = block(hidden, condition)
            if level < len(self.shrink):
                skips.append(hidden)
                hidden = self.shrink[level](hidden)
        for level in reversed(range(len(self.grow))):
            large = hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)
            hidden = self.grow[level](torch.cat([skips[level], large], 1))
            for block in _listed(self.up[level]):
                hidden = block(hidden, condition)
        out: Tensor = self.leave(nn.functional.silu(self.norm(hidden)))
        return out


def _listed(blocks: nn.Module) -> list[nn.Module]:
    return list(blocks.children())


class Transformer(Modulated):
    """The blocks of `DiT` on patches of 2 x 2 pixels (1 x 1 where sides are odd), width `width`."""

    positions: Tensor

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.channels, height, width = spec.picture("dit")
        if height != width or spec.width % 4:
            raise UserError(
                f"the network 'dit' is for square pictures and widths divisible by 4, not "
                f"{height} x {width} and {spec.width}: take the network 'unet', or another width"
            )
        self.patch = 1 if height % 2 else 2
        self.side = height // self.patch
        heads = next(h for h in (8, 6, 4, 3, 2, 1) if spec.width % h == 0)
        self.embed = time_embedding(spec.times, spec.width)
        self.labels = LabelEmbedding(spec.classes, spec.width) if spec.classes else None
        inputs = spec.parts * self.channels
        self.enter = nn.Conv2d(inputs, spec.width, self.patch, self.patch)
        self.register_buffer("positions", position_table(spec.width, self.side))
        self.blocks = nn.ModuleList(DiTBlock(spec.width, heads, False) for _ in range(spec.depth))
        self.leave = FinalLayer(spec.width, self.patch**2 * self.channels)
        for name, value in self.named_parameters():  # the identity, and zero, at the start
            if name.startswith("blocks.") and ".adaLN_modulation." in name:
                nn.init.zeros_(value)
        nn.init.zeros_(self.leave.linear.weight)
        nn.init.zeros_(self.leave.linear.bias)

    def forward(
        self,
        x: Tensor,
        times: Sequence[Tensor],
        label: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        condition = self.conditioning(times, label, scale)
        tokens = self.enter(x.flatten(1, 2)).flatten(2).mT + self.positions
        with exact_attention():  # whose fused kernels know no forward derivative
            for block in self.blocks:
                tokens = block(tokens, condition)
        pixels = self.leave(tokens, condition)
        grid = pixels.unflatten(2, (self.patch, self.patch, self.channels))
        grid = grid.unflatten(1, (self.side, self.side)).permute(0, 5, 1, 3, 2, 4)
        out: Tensor = grid.flatten(4, 5).flatten(2, 3)
        return out


BACKBONES: Mapping[str, Callable[[BackboneSpec], nn.Module]] = {"unet": UNet, "dit": Transformer}
"""Name -> what makes a backbone; `mlp` is the nets' own, and `module:Class` anybody's."""


def make_backbone(network: str, spec: BackboneSpec) -> nn.Module:
    """A backbone by name.  UserError for an unknown one, or one that does not keep the contract."""
    known = [MLP, *BACKBONES]
    if network in BACKBONES:
        return BACKBONES[network](spec)
    if ":" not in network:
        raise UserError(f"unknown network '{network}': {nearest(network, known)}")
    try:
        made = pkgutil.resolve_name(network)(spec)
    except UserError:
        raise
    except Exception as error:  # somebody else's module may raise anything
        raise UserError(
            f"the network '{network}' cannot be made from {spec}: {type(error).__name__}: {error}"
        ) from error
    return _kept_contract(network, made, spec)


def _kept_contract(network: str, net: object, spec: BackboneSpec) -> nn.Module:
    """The network; UserError unless a call gives a state."""
    if not isinstance(net, nn.Module):
        raise UserError(f"the network '{network}' makes a {type(net).__name__}, no torch module")
    x, times = torch.zeros(2, spec.parts, *spec.event_shape), [torch.zeros(2)] * spec.times
    label = torch.zeros(2, dtype=torch.long) if spec.classes else None
    try:
        with torch.no_grad():
            out = net(x, times, label, None if label is None else torch.ones(2))
    except Exception as error:  # somebody else's module may raise anything
        raise UserError(
            f"the network '{network}' cannot be called as net(x, times, label, scale) with x "
            f"{tuple(x.shape)}: {type(error).__name__}: {error}"
        ) from error
    if getattr(out, "shape", None) != (2, *spec.event_shape):
        raise UserError(
            f"the network '{network}' gives {tuple(getattr(out, 'shape', ()))} for x "
            f"{tuple(x.shape)}: it has to give {(2, *spec.event_shape)}"
        )
    return net
