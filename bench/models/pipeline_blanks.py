"""Zeros in place of what a network is told of a prompt, in its shapes: enough to count FLOPs.

The pipelines pad every prompt to as many tokens as their encoders read, so that the shapes follow
from the configuration of the network and are the same for all prompts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.models.pipeline_inputs import Config, Features

Blank = Callable[[Config], Features]
"""(configuration of the network) -> (1, ...) each, by the name under which it is told."""

CLIP = 77
"""Tokens that the text encoders of CLIP read."""
SIZES = 6
"""Numbers that SDXL is told of a picture: original size, corner, target size."""


def blank_states(tokens: int, width: str) -> Blank:
    """The states of a text encoder; width: where the configuration has their width."""
    return lambda config: {"encoder_hidden_states": torch.zeros(1, tokens, config[width])}


def blank_pooled(tokens: int) -> Blank:
    """States, and one vector of the whole sentence; the guidance too, where it is told."""

    def blank(config: Config) -> Features:
        states = blank_states(tokens, "joint_attention_dim")(config)
        told = {"guidance": torch.zeros(1)} if config.get("guidance_embeds") else {}
        pooled = torch.zeros(1, config["pooled_projection_dim"])
        return {**states, "pooled_projections": pooled, **told}

    return blank


def blank_masked(tokens: int) -> Blank:
    """States, and which of them are words."""

    def blank(config: Config) -> Features:
        mask = torch.ones(1, tokens, dtype=torch.long)
        return {**blank_states(tokens, "caption_channels")(config), "encoder_attention_mask": mask}

    return blank


def blank_sdxl(config: Config) -> Features:
    """States of two encoders side by side, the vector of the second, and the sizes."""
    added = config["projection_class_embeddings_input_dim"]
    pooled = added - SIZES * config["addition_time_embed_dim"]
    return {
        **blank_states(CLIP, "cross_attention_dim")(config),
        "text_embeds": torch.zeros(1, pooled),
        "time_ids": torch.zeros(1, SIZES),
    }


def blank_label(_config: Config) -> Features:
    """A class."""
    return {"class_labels": torch.zeros(1, dtype=torch.long)}
