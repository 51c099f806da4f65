"""A diffusion transformer as a meta flow map, compatible with the public MFM checkpoints.

One network v_{s,u}(x_bar; t, x) (arXiv 2601.14430): the first `encoder_depth` blocks are
conditioned chiefly on the inner time s that one leaves, the others on the u that one reaches
(Decoupled MeanFlow, arXiv 2510.24474).  The context (t, x) enters as modulated patches and as a
time embedding.  Everywhere outside this file time 0 is noise and 1 is data; inside, the inner
times run the other way, as in the networks from which the weights descend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.conditions import label_of
from bench.core.flops import Unbuilt
from bench.core.params import UserError
from bench.core.paths import Interpolant, Linear, expand
from bench.core.protocols import Condition
from bench.models.dit_layers import (
    DiTBlock,
    FinalLayer,
    GuidanceEmbedder,
    LabelEmbedder,
    PatchEmbedder,
    TimeEmbedder,
    exact_attention,
    modulate,
    modulation,
    position_table,
)

__all__ = ["DiT", "DiTConfig", "DiTFlow", "DiTMap", "exact_attention", "unbuilt"]


@dataclass(frozen=True)
class DiTConfig:
    """The shape of the network; the defaults are XL/2 on 32x32 latents.  ValueError if impossible.

    `guidance_scales` are the classifier-free guidance scales that the network was trained to
    imitate, 1 (none) first.
    """

    input_size: int = 32
    patch: int = 2
    channels: int = 4
    hidden: int = 1152
    depth: int = 28
    heads: int = 16
    classes: int = 1000
    encoder_depth: int = 20
    guidance_scales: tuple[float, ...] = (1.0, 2.5)
    qk_norm: bool = False

    def __post_init__(self) -> None:
        if self.input_size % self.patch:
            raise ValueError(f"patch {self.patch} does not divide input_size {self.input_size}")
        if self.hidden % self.heads or self.hidden % 4:
            raise ValueError(f"heads {self.heads} and 4 must divide hidden {self.hidden}")
        if not 0 <= self.encoder_depth <= self.depth:
            raise ValueError(f"encoder_depth must lie in 0 ... depth, not {self.encoder_depth}")
        if self.guidance_scales[:1] != (1.0,):
            raise ValueError("the first of guidance_scales is 1.0, no guidance")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return self.channels, self.input_size, self.input_size

    @classmethod
    def xl2(cls) -> DiTConfig:
        """MFM-XL/2: 684 million parameters."""
        return cls()

    @classmethod
    def b2(cls) -> DiTConfig:
        """MFM-B/2: 134 million parameters."""
        return cls(hidden=768, depth=12, heads=12, encoder_depth=8)


class DiT(nn.Module):
    """v_{s,u}(x_bar; t, x) for a batch of labels and guidance scales.

    Weights come from a file (`bench.models.checkpoints`); a fresh network is random.
    """

    pos_embed: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        d, side = config.hidden, config.input_size // config.patch
        self.x_embedder = PatchEmbedder(config.channels, config.patch, d)
        self.x_cond_embedder = PatchEmbedder(config.channels, config.patch, d)
        self.x_cond_adaLN = modulation(d, 2)
        self.s_embedder, self.s_embedder_second = TimeEmbedder(d), TimeEmbedder(d)
        self.t_embedder, self.t_embedder_second = TimeEmbedder(d), TimeEmbedder(d)
        self.t_cond_embedder = TimeEmbedder(d)
        self.y_embedder = LabelEmbedder(config.classes, d)
        self.guidance_embedder = GuidanceEmbedder(config.guidance_scales, d)
        self.register_buffer("pos_embed", position_table(d, side))
        self.blocks = nn.ModuleList(
            DiTBlock(d, config.heads, config.qk_norm) for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(d, config.patch**2 * config.channels)

    def forward(
        self,
        x_bar: Tensor,
        s: Tensor,
        u: Tensor,
        x: Tensor,
        t: Tensor,
        label: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x), shape of x_bar (batch, *event_shape); the rest is (batch,)."""
        context_time = self.t_cond_embedder(t)
        tokens = self._tokens(x_bar, x, context_time)
        shared = context_time + self.y_embedder(label)
        first = self.s_embedder(1 - s) + self.t_embedder(1 - u) + shared
        first = first + self.guidance_embedder(guidance)
        second = self.s_embedder_second(1 - s) + self.t_embedder_second(1 - u) + shared
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, first if index < self.config.encoder_depth else second)
        # d/d(1 - t) = -d/dt: the network's velocity points to noise
        return -self._image(self.final_layer(tokens, second))

    def _tokens(self, x_bar: Tensor, x: Tensor, context_time: Tensor) -> Tensor:
        """patches(x_bar) + patches(x) * (1 + scale_t) + shift_t + positions."""
        shift, scale = self.x_cond_adaLN(context_time).chunk(2, dim=-1)
        context = modulate(self.x_cond_embedder(x), shift, scale)
        out: Tensor = self.x_embedder(x_bar) + context + self.pos_embed
        return out

    def _image(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, patch row * patch column * channel) -> (batch, *event_shape)."""
        c = self.config
        side = c.input_size // c.patch
        grid = tokens.reshape(-1, side, side, c.patch, c.patch, c.channels)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(-1, *c.event_shape)


class _Conditioned(nn.Module):
    """A network with its default guidance scale, and what a condition means.

    A condition is a label (int, or LongTensor with one label per row), a mapping with a label, a
    pair (label, guidance scale), or None for no label and no guidance.
    """

    def __init__(self, net: DiT, guidance: float = 1.0) -> None:
        super().__init__()
        self.net, self.guidance = net, guidance
        self.event_shape = net.config.event_shape
        self.interpolant: Interpolant = Linear()
        self._check_guidance(guidance)

    def _velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition
    ) -> Tensor:
        label, guidance = self.told(condition, s)
        out: Tensor = self.net(x_bar, s, u, x, t, label, guidance)
        return out

    def told(self, condition: Condition, like: Tensor) -> tuple[Tensor, Tensor]:
        """Label and guidance of every row, (batch,) each; UserError where they do not exist."""
        pair = isinstance(condition, tuple | list)
        label, guidance = condition if pair else (label_of(condition), self.guidance)
        null = self.net.config.classes
        if label is None:
            label, guidance = null, 1.0
        if not isinstance(label, Tensor) and label not in range(null + 1):
            raise UserError(f"there is no class {label!r}: labels run from 0 to {null - 1}")
        self._check_guidance(guidance)
        return _per_row(label, like, torch.long), _per_row(guidance, like, like.dtype)

    def _check_guidance(self, guidance: float | Tensor) -> None:
        # the table's nearest row would quietly stand for another scale
        trained = self.net.config.guidance_scales
        if not isinstance(guidance, Tensor) and guidance not in trained:
            known = ", ".join(f"{scale:g}" for scale in trained)
            raise UserError(f"guidance {guidance:g} is not one that was trained: {known}")


def _per_row(value: float | Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A number, or one for each row, as (batch,) of a dtype; a number is written there at once."""
    if isinstance(value, Tensor):
        return value.to(like.device, dtype).expand(like.shape)
    return torch.full((1,), value, device=like.device, dtype=dtype).expand(like.shape)


class DiTMap(_Conditioned):
    """The network in the role of a MetaFlowMap."""

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x), shape of x_bar."""
        return self._velocity(x_bar, s, u, x, t, condition)

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """x + (u - s) v_{s,u}(x; 0, 0): the flow map of the data, where the context is void."""
        v = self._velocity(x, s, u, torch.zeros_like(x), torch.zeros_like(s), condition)
        return x + expand(u - s, x) * v


class DiTFlow(_Conditioned):
    """The network in the role of a Flow."""

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) = v_{t,t}(x; 0, 0), shape of x."""
        return self._velocity(x, t, t, torch.zeros_like(x), torch.zeros_like(t), condition)


def unbuilt(config: DiTConfig) -> Unbuilt:
    """A network of this shape, in either role, for a count of a row's FLOPs alone."""

    def make() -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        net, x, t = DiT(config).requires_grad_(False), torch.zeros(2, *config.event_shape), 0.5
        return DiTMap(net).velocity, (x, *(torch.full((2,), t),) * 2, x.clone(), torch.ones(2) * t)

    return make
