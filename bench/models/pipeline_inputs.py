"""What the network of a pipeline is told of a condition, and how it is called, family by family."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.core.protocols import Condition

Config = Mapping[str, Any]
Features = dict[str, Tensor]
"""What a network is told of a condition: (1, ...) each, by the name under which it is told."""


@dataclass(frozen=True)
class Asked:
    """What every prompt of a task has in common; network: its configuration."""

    network: Config
    height: int
    width: int
    negative: str = ""
    guidance: float = 1.0
    second: bool = False
    """Whether there is a second row, without the prompt."""


@dataclass(frozen=True)
class Told:
    """The features of a condition, and those of the second row, if there is one."""

    given: Features
    without: Features | None = None


Embed = Callable[[Any, Condition, Asked], Told]
"""(pipeline without network and decoder, condition, asked) -> what the network is told."""
Call = Callable[[Any, Tensor, Tensor, Features], Tensor]
"""(network, native state, network's time (batch,), features (batch, ...)) -> its output."""


def repeated(features: Features, rows: int) -> Features:
    """(1, ...) -> (rows, ...)."""
    return {name: value.expand(rows, *value.shape[1:]) for name, value in features.items()}


# -- what a prompt is to a network -----------------------------------------------------------------


def _encoded(pipe: Any, sentence: str, asked: Asked, **more: Any) -> Any:
    """`encode_prompt` as the pipeline's call has it; an empty negative prompt is left to it."""
    negative = {"negative_prompt": asked.negative} if asked.negative else {}
    return pipe.encode_prompt(
        prompt=sentence,
        device="cpu",
        num_images_per_prompt=1,
        do_classifier_free_guidance=asked.second,
        **negative,
        **more,
    )


def _told(given: Features, without: Features, asked: Asked) -> Told:
    return Told(given, without if asked.second else None)


def embed_sd3(pipe: Any, sentence: str, asked: Asked) -> Told:
    """All encoders read the same sentence."""
    text, negative, pooled, negative_pooled = _encoded(
        pipe, sentence, asked, prompt_2=None, prompt_3=None
    )
    names = ("encoder_hidden_states", "pooled_projections")
    given, without = (text, pooled), (negative, negative_pooled)
    return _told(
        dict(zip(names, given, strict=True)), dict(zip(names, without, strict=True)), asked
    )


def embed_sd(pipe: Any, sentence: str, asked: Asked) -> Told:
    """The states of one text encoder."""
    text, negative = _encoded(pipe, sentence, asked)
    return _told({"encoder_hidden_states": text}, {"encoder_hidden_states": negative}, asked)


def embed_sdxl(pipe: Any, sentence: str, asked: Asked) -> Told:
    """With the picture's size as original and target size, uncropped: the pipeline's defaults."""
    text, negative, pooled, negative_pooled = _encoded(pipe, sentence, asked)
    size = (asked.height, asked.width)
    ids = torch.tensor([(*size, 0, 0, *size)], dtype=text.dtype)
    given = {"encoder_hidden_states": text, "text_embeds": pooled, "time_ids": ids}
    without = {
        "encoder_hidden_states": negative,
        "text_embeds": negative_pooled,
        "time_ids": ids,
    }
    return _told(given, without, asked)


def embed_sana(pipe: Any, sentence: str, asked: Asked) -> Told:
    """The long instruction in front of the prompt is a default of the pipeline's call."""
    defaults = inspect.signature(type(pipe).__call__).parameters
    instruction = defaults["complex_human_instruction"].default
    text, mask, negative, negative_mask = _encoded(
        pipe, sentence, asked, complex_human_instruction=instruction
    )
    names = ("encoder_hidden_states", "encoder_attention_mask")
    given, without = (text, mask), (negative, negative_mask)
    return _told(
        dict(zip(names, given, strict=True)), dict(zip(names, without, strict=True)), asked
    )


def embed_flux(pipe: Any, sentence: str, asked: Asked) -> Told:
    """Guidance is told to the network rather than made of two rows."""
    text, pooled, _ = pipe.encode_prompt(prompt=sentence, prompt_2=None, device="cpu")
    given = {"encoder_hidden_states": text, "pooled_projections": pooled}
    if asked.network.get("guidance_embeds"):
        given["guidance"] = torch.tensor([asked.guidance], dtype=torch.float32)
    return Told(given)


def embed_dit(_pipe: Any, label: Condition, asked: Asked) -> Told:
    """The class after the last one stands for none."""
    classes = asked.network["num_embeds_ada_norm"]
    if not isinstance(label, int) or not 0 <= label < classes:
        raise UserError(
            f"the condition {label!r} is no class: give a number from 0 to {classes - 1}"
        )
    given, without = ({"class_labels": torch.tensor([k])} for k in (label, classes))
    return _told(given, without, asked)


# -- how a network is called -----------------------------------------------------------------------


def plain_call(network: Any, x: Tensor, time: Tensor, told: Features) -> Tensor:
    """The output; of one with a variance behind the mean, the mean."""
    out: Tensor = network(x, timestep=time, return_dict=False, **told)[0]
    return out[:, : x.shape[1]]


def call_sdxl(network: Any, x: Tensor, time: Tensor, told: Features) -> Tensor:
    """The pooled text and the sizes go beside the states."""
    added = {name: told[name] for name in ("text_embeds", "time_ids")}
    text = told["encoder_hidden_states"]
    out: Tensor = network(
        x, time, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False
    )[0]
    return out


def call_flux(network: Any, x: Tensor, time: Tensor, told: Features) -> Tensor:
    """Latents (batch, c, h, w) as the sequence of 2 x 2 patches that the network reads."""
    from diffusers import FluxPipeline

    n, channels, height, width = x.shape
    packed = FluxPipeline._pack_latents(x, n, channels, height, width)
    places = FluxPipeline._prepare_latent_image_ids(n, height // 2, width // 2, x.device, x.dtype)
    words = torch.zeros(told["encoder_hidden_states"].shape[1], 3, device=x.device, dtype=x.dtype)
    out = network(packed, timestep=time, txt_ids=words, img_ids=places, return_dict=False, **told)[
        0
    ]
    unpacked: Tensor = FluxPipeline._unpack_latents(out, height, width, 1)
    return unpacked
