"""The layers of a diffusion transformer (DiT, arXiv 2212.09748), under the public tensor names.

Attribute names (`mlp`, `proj`, `embedding_table`, `adaLN_modulation`, ...) are those of the public
SiT, DMF and MFM checkpoints: renaming one breaks loading.  Sequences are (batch, tokens, D),
conditions (batch, D).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = 128
EPSILON = 1e-6

_exact: ContextVar[bool] = ContextVar("exact_attention", default=False)


@contextmanager
def exact_attention() -> Iterator[None]:
    """Within it, attention is softmax(q k^T) v written out: O(tokens^2) memory, any derivative.

    The fused kernels have no forward-mode and no second derivative, so `torch.func.jvp` and the
    consistency losses built on it need this.
    """
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v over (batch, heads, tokens, head_dim)."""
    if _exact.get():
        weights = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
        out: Tensor = weights @ v
        return out
    return functional.scaled_dot_product_attention(q, k, v)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift, the modulation (batch, D) being common to all tokens."""
    return x * (1 + scale[:, None]) + shift[:, None]


def modulation(hidden: int, parts: int) -> nn.Sequential:
    """SiLU, then a linear map to `parts` vectors of the hidden size."""
    return nn.Sequential(nn.SiLU(), nn.Linear(hidden, parts * hidden))


def normalised(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without parameters, then modulation, in the precision of shift and scale.

    That is the one in which the network multiplies: a linear map reads the result, and would round
    it.  Autocast would norm in float32, and the passes through memory cost more than the products.
    """
    with torch.autocast(x.device.type, enabled=False):
        normed = functional.layer_norm(x.to(shift.dtype), x.shape[-1:], eps=EPSILON)
        return torch.addcmul(shift[:, None], normed, 1 + scale[:, None])


def sinusoidal_features(t: Tensor) -> Tensor:
    """[cos, sin] of t exp(-ln(10000) i / 128), i < 128: (batch,) -> (batch, 256), not scaled."""
    # half-precision angles would merge neighbouring times
    t = t.to(torch.promote_types(t.dtype, torch.float32))
    angle = t[:, None] * time_rates(t.dtype, t.device)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def time_rates(dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """exp(-ln(10000) i / 128), i < 128: what times are multiplied by."""
    index = torch.arange(FREQUENCIES, device=device, dtype=dtype)
    return torch.exp(-math.log(10_000) / FREQUENCIES * index)


def position_table(hidden: int, side: int) -> Tensor:
    """(1, side^2, hidden), tokens row-major: sines and cosines of the column, then of the row.

    Each half is [sin, cos] of index / 10000^(i / (hidden / 4)), i < hidden / 4.
    """
    quarter = hidden // 4
    rate = 10_000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(side, dtype=torch.float64)[:, None] * rate
    axis = torch.cat([angle.sin(), angle.cos()], dim=-1)
    table = torch.cat([axis.repeat(side, 1), axis.repeat_interleave(side, dim=0)], dim=-1)
    return table[None].float()


class PatchEmbedder(nn.Module):
    """(batch, channels, height, width) -> (batch, tokens, D), tokens row-major."""

    def __init__(self, channels: int, patch: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, hidden, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        # Left transposed, every sum and norm of the whole network would walk memory in strides.
        return self.proj(x).flatten(2).mT.contiguous()  # type: ignore[no-any-return]


class TimeEmbedder(nn.Module):
    """(batch,) -> (batch, D)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )

    def forward(self, t: Tensor) -> Tensor:
        out: Tensor = self.mlp(sinusoidal_features(t).to(next(self.parameters()).dtype))
        return out


class LabelEmbedder(nn.Module):
    """Labels 0 ... classes - 1, and `classes` for no label: (batch,) -> (batch, D)."""

    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, hidden)

    def forward(self, label: Tensor) -> Tensor:
        out: Tensor = self.embedding_table(label)
        return out


class GuidanceEmbedder(nn.Module):
    """The row of the trained scale that is nearest: (batch,) -> (batch, D)."""

    def __init__(self, scales: tuple[float, ...], hidden: int) -> None:
        super().__init__()
        self.scales = scales
        self.embedding_table = nn.Embedding(len(scales), hidden)

    def forward(self, guidance: Tensor) -> Tensor:
        # Numbers, and no tensor of them, which would have to travel to the device in every call.
        distance = torch.stack([(guidance - scale).abs() for scale in self.scales], dim=-1)
        out: Tensor = self.embedding_table(distance.argmin(-1))
        return out


class RMSNorm(nn.Module):
    """x / rms(x) * scale; `scale`, not `weight`, is the name in the public files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        rms = (wide.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
        return x * rms.to(x.dtype) * self.scale.to(x.dtype)


class Attention(nn.Module):
    """Self-attention over (batch, tokens, D), with optional RMS norms of queries and keys."""

    def __init__(self, hidden: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.q_norm = RMSNorm(hidden // heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(hidden // heads) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = attend(self.q_norm(q), self.k_norm(k), v)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Perceptron(nn.Module):
    """fc2(gelu(fc1(x))) with the tanh approximation of GELU and four times the width inside."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))
        return out


class DiTBlock(nn.Module):
    """Attention, then MLP, each modulated and gated by the condition (adaLN-Zero)."""

    def __init__(self, hidden: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(hidden, heads, qk_norm), Perceptron(hidden)
        self.adaLN_modulation = modulation(hidden, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, *of_mlp = self.adaLN_modulation(condition).chunk(6, dim=-1)
        x = x + gate[:, None] * self.attn(normalised(x, shift, scale))
        shift, scale, gate = of_mlp
        out: Tensor = x + gate[:, None] * self.mlp(normalised(x, shift, scale))
        return out


class FinalLayer(nn.Module):
    """Modulated projection of each token to its patch: (batch, tokens, patch^2 * channels)."""

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, outputs)
        self.adaLN_modulation = modulation(hidden, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        out: Tensor = self.linear(normalised(x, shift, scale))
        return out
