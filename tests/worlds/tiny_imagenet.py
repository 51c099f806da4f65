"""Public files in small: a meta flow map and a plain SiT as released, and a KL autoencoder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.models.checkpoints import bare_names
from tests.worlds.tiny_dit import FIXTURE, part

CONTEXT = ("x_cond_", "t_cond_")
NEW_TIMES = ("s_embedder.", "s_embedder_second.", "t_embedder_second.")
CHANNELS, FACTOR, LATENT = 4, 4, 8
"""Channels of the latents, pixels per latent, side of the latents."""


def settings() -> dict[str, str]:
    with safe_open(FIXTURE, "pt") as file:
        return dict(file.metadata())


LABELS = "model.dit.y_embedder.embedding_table.weight"


def write_map(path: Path, classes: int = 10) -> Path:
    """The release's tiny network under its own names, as safetensors with its settings.

    Classes after its ten have random embeddings.
    """
    state = part("param")
    more = torch.randn(classes - 10, 32, generator=torch.Generator().manual_seed(5))
    state[LABELS] = torch.cat([state[LABELS][:-1], 0.02 * more, state[LABELS][-1:]])
    save_file(state, path, settings())
    return path


def plain_flow() -> dict[str, Tensor]:
    """What a REPA or DMF file of this size holds: velocity alone, time 1 is noise."""
    left_out = (*CONTEXT, *NEW_TIMES, "guidance_embedder.")
    return {k: v for k, v in bare_names(part("param")).items() if not k.startswith(left_out)}


def with_variance(state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """A file with twice as many outputs, the second half of each pixel's at random."""
    generator, out = torch.Generator().manual_seed(seed), dict(state)
    for name in ("final_layer.linear.weight", "final_layer.linear.bias"):
        own = state[name].unflatten(0, (4, CHANNELS))
        other = torch.randn(own.shape, generator=generator)
        out[name] = torch.cat([own, other], 1).flatten(0, 1)
    return out


def write_flow(path: Path, state: dict[str, Tensor]) -> Path:
    save_file({k: v.contiguous() for k, v in state.items()}, path, {"num_heads": "4"})
    return path


def write_autoencoder(folder: Path, channels: int = CHANNELS, **changes: object) -> Path:
    """A KL autoencoder of random weights, in a folder as diffusers writes it."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(7)
        net = AutoencoderKL(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=channels,
            norm_num_groups=4,
            sample_size=32,
        )
    net.save_pretrained(folder)
    if changes:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
