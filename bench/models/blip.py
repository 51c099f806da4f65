"""BLIP's image-grounded text encoder with a score on top: the network of ImageReward.

Written with the parameter names of the published file (`ImageReward.pt`), which loads strictly.
A ViT reads the picture; a BERT reads the prompt and, in every layer, looks at the picture
(arXiv 2201.12086, section 3.1); the first token's state goes through linear layers
(arXiv 2304.05977).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw score on ImageReward's validation set: what the published score is standardised by."""


@dataclass(frozen=True)
class BlipConfig:
    """Sizes; the defaults are those of the published network."""

    side: int = 224
    patch: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    vocabulary: int = 30_524
    positions: int = 512
    head: tuple[int, ...] = (1024, 128, 64, 16, 1)


def attend_heads(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of (n, queries, d) over (n, keys, d)."""
    q, k, v = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (q, k, v))
    out = nn.functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(-2)


class _VisionAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        out: Tensor = self.proj(attend_heads(q, k, v, self.heads))
        return out


class _VisionBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _VisionAttention(width, heads)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


class _Vision(nn.Module):
    """Pre-norm ViT; all tokens are returned."""

    def __init__(self, c: BlipConfig) -> None:
        super().__init__()
        width, tokens = c.vision_width, (c.side // c.patch) ** 2 + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, c.patch, c.patch)})
        self.blocks = nn.ModuleList(
            _VisionBlock(width, c.vision_heads) for _ in range(c.vision_layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class _Attention(nn.Module):
    """BERT's attention with its residual and post-norm; keys and values may come from elsewhere."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        sizes = {"query": width, "key": context, "value": context}
        self.self = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.items()})
        self.output = _output(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.self["query"](x)
        k, v = self.self["key"](context), self.self["value"](context)
        seen = self.output["dense"](attend_heads(q, k, v, self.heads))
        out: Tensor = self.output["LayerNorm"](seen + x)
        return out


def _output(inner: int, width: int) -> nn.ModuleDict:
    norm = nn.LayerNorm(width, eps=1e-12)
    return nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": norm})


class _TextLayer(nn.Module):
    def __init__(self, c: BlipConfig) -> None:
        super().__init__()
        self.attention = _Attention(c.width, c.width, c.heads)
        self.crossattention = _Attention(c.width, c.vision_width, c.heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(c.width, 4 * c.width)})
        self.output = _output(4 * c.width, c.width)

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:
        x = self.crossattention(self.attention(x, x), picture)
        inner = nn.functional.gelu(self.intermediate["dense"](x))
        out: Tensor = self.output["LayerNorm"](self.output["dense"](inner) + x)
        return out


class _Text(nn.Module):
    def __init__(self, c: BlipConfig) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(c.vocabulary, c.width),
                "position_embeddings": nn.Embedding(c.positions, c.width),
                "LayerNorm": nn.LayerNorm(c.width, eps=1e-12),
            }
        )
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_TextLayer(c) for _ in range(c.layers))

    def forward(self, ids: Tensor, picture: Tensor) -> Tensor:
        e, places = self.embeddings, torch.arange(ids.shape[1], device=ids.device)
        x = e["LayerNorm"](e["word_embeddings"](ids) + e["position_embeddings"](places))
        layers = cast(nn.ModuleList, self.encoder.layer)
        for layer in layers:
            x = layer(x, picture)
        return cast(Tensor, x)


class _Head(nn.Module):
    """Linear layers without activations; the gaps in their numbers are the published dropouts."""

    def __init__(self, c: BlipConfig) -> None:
        super().__init__()
        sizes = (c.width, *c.head)
        numbers = [*range(0, 2 * (len(c.head) - 1), 2), 2 * (len(c.head) - 1) - 1]
        self.layers = nn.ModuleDict(
            {str(k): nn.Linear(sizes[i], sizes[i + 1]) for i, k in enumerate(numbers)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


class BlipScore(nn.Module):
    """Pictures (n, 3, side, side) and token ids (1, length) to standardised scores (n,).

    The two encoders may be narrower than float32 (`narrowed`); the head never is, since in bfloat16
    a score between 1 and 2 is one of 128 numbers.
    """

    def __init__(self, config: BlipConfig | None = None) -> None:
        super().__init__()
        self.config = config or BlipConfig()
        self.blip = nn.ModuleDict(
            {"visual_encoder": _Vision(self.config), "text_encoder": _Text(self.config)}
        )
        self.mlp = _Head(self.config)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        picture = self.blip["visual_encoder"](x.to(next(self.blip.parameters()).dtype))
        state = self.blip["text_encoder"](ids.expand(len(x), -1), picture)[:, 0]
        head = next(self.mlp.parameters()).dtype
        return (cast(Tensor, self.mlp(state.to(head)))[:, 0] - MEAN) / STD

    def narrowed(self, dtype: torch.dtype) -> BlipScore:
        """The network with its encoders in `dtype` and its head at least in float32."""
        self.blip.to(dtype)
        self.mlp.to(torch.promote_types(dtype, torch.float32))
        return self
