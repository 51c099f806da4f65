"""Families of diffusers pipelines, one row of a table each; the next family is one more row.

A row says what differs between families: where the network is, its native path, what a prompt is
to it, how it is called and what the pipeline hands its scheduler.  All else is shared: the flow
(`pipeline_flow`), the schedule (`pipeline_schedules`), the folder (`pipeline_folder`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.core.params import UserError, nearest
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


def _embed_sd3(pipe: Any, sentence: str, asked: Asked) -> Told:
    text, negative, pooled, negative_pooled = _encoded(
        pipe, sentence, asked, prompt_2=None, prompt_3=None
    )
    names = ("encoder_hidden_states", "pooled_projections")
    given, without = (text, pooled), (negative, negative_pooled)
    return _told(
        dict(zip(names, given, strict=True)), dict(zip(names, without, strict=True)), asked
    )


def _embed_sd(pipe: Any, sentence: str, asked: Asked) -> Told:
    text, negative = _encoded(pipe, sentence, asked)
    return _told({"encoder_hidden_states": text}, {"encoder_hidden_states": negative}, asked)


def _embed_sdxl(pipe: Any, sentence: str, asked: Asked) -> Told:
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


def _embed_sana(pipe: Any, sentence: str, asked: Asked) -> Told:
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


def _embed_flux(pipe: Any, sentence: str, asked: Asked) -> Told:
    """Guidance is told to the network rather than made of two rows."""
    text, pooled, _ = pipe.encode_prompt(prompt=sentence, prompt_2=None, device="cpu")
    given = {"encoder_hidden_states": text, "pooled_projections": pooled}
    if asked.network.get("guidance_embeds"):
        given["guidance"] = torch.tensor([asked.guidance], dtype=torch.float32)
    return Told(given)


def _embed_dit(_pipe: Any, label: Condition, asked: Asked) -> Told:
    """The class after the last one stands for none."""
    classes = asked.network["num_embeds_ada_norm"]
    if not isinstance(label, int) or not 0 <= label < classes:
        raise UserError(
            f"the condition {label!r} is no class: give a number from 0 to {classes - 1}"
        )
    given, without = ({"class_labels": torch.tensor([k])} for k in (label, classes))
    return _told(given, without, asked)


# -- how a network is called -----------------------------------------------------------------------


def _call(network: Any, x: Tensor, time: Tensor, told: Features) -> Tensor:
    """The output; of one with a variance behind the mean, the mean."""
    out: Tensor = network(x, timestep=time, return_dict=False, **told)[0]
    return out[:, : x.shape[1]]


def _call_sdxl(network: Any, x: Tensor, time: Tensor, told: Features) -> Tensor:
    added = {name: told[name] for name in ("text_embeds", "time_ids")}
    text = told["encoder_hidden_states"]
    out: Tensor = network(
        x, time, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False
    )[0]
    return out


def _call_flux(network: Any, x: Tensor, time: Tensor, told: Features) -> Tensor:
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


# -- what a pipeline hands its scheduler -----------------------------------------------------------


def _no_arguments(*_: Any) -> dict[str, Any]:
    return {}


def _shift(scheduler: Any, tokens: int, largest: float) -> float:
    """mu of a shift that depends on the size of the picture, as the pipelines have it."""
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    known = scheduler.config
    mu: float = calculate_shift(
        tokens,
        known.get("base_image_seq_len", 256),
        known.get("max_image_seq_len", 4096),
        known.get("base_shift", 0.5),
        known.get("max_shift", largest),
    )
    return mu


def _sd3_arguments(scheduler: Any, tokens: int, _steps: int) -> dict[str, Any]:
    dynamic = scheduler.config.get("use_dynamic_shifting")
    return {"mu": _shift(scheduler, tokens, 1.16)} if dynamic else {}


def _flux_arguments(scheduler: Any, tokens: int, steps: int) -> dict[str, Any]:
    sigmas = torch.linspace(1, 1 / steps, steps, dtype=torch.float64).tolist()
    own = scheduler.config.get("use_flow_sigmas")
    return {"sigmas": None if own else sigmas, "mu": _shift(scheduler, tokens, 1.15)}


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A row: what is particular to one pipeline class.

    network: the folder and attribute of the network.
    embed, call: see `Embed` and `Call`.
    unit: of its time (`FlowPath`), times `timestep_scale` of its configuration; None: whole times.
    arguments: (scheduler, tokens, steps) -> more of `set_timesteps`.
    guidance: the pipeline's default.
    embedded: whether guidance is told to the network, in one row, where the network has it.
    readers: folders of tokenizers -> tokens that are read of a prompt; None: the tokenizer says.
    pack: pixels of latents that are packed into one, per side.
    side: of latents, where the network's configuration does not say.
    settings: of the scheduler that the pipeline enforces, whatever the folder says.
    labels: whether conditions are classes rather than sentences.
    """

    network: str
    embed: Embed
    call: Call = _call
    unit: float | None = None
    arguments: Callable[[Any, int, int], dict[str, Any]] = _no_arguments
    guidance: float = 1.0
    embedded: bool = False
    readers: tuple[tuple[str, int | None], ...] = ()
    pack: int = 1
    side: int | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    labels: bool = False


FAMILIES: Mapping[str, Family] = {
    "StableDiffusion3Pipeline": Family(
        network="transformer",
        embed=_embed_sd3,
        unit=1000.0,
        arguments=_sd3_arguments,
        guidance=7.0,
        readers=(("tokenizer", None), ("tokenizer_2", None), ("tokenizer_3", 256)),
    ),
    "FluxPipeline": Family(
        network="transformer",
        embed=_embed_flux,
        call=_call_flux,
        unit=1.0,
        arguments=_flux_arguments,
        guidance=3.5,
        embedded=True,
        readers=(("tokenizer", None), ("tokenizer_2", 512)),
        pack=2,
        side=128,
    ),
    "SanaPipeline": Family(
        network="transformer",
        embed=_embed_sana,
        unit=1000.0,
        guidance=4.5,
        readers=(("tokenizer", 300),),
    ),
    "StableDiffusionPipeline": Family(
        network="unet",
        embed=_embed_sd,
        guidance=7.5,
        readers=(("tokenizer", None),),
        settings=(("steps_offset", 1), ("clip_sample", False)),
    ),
    "StableDiffusionXLPipeline": Family(
        network="unet",
        embed=_embed_sdxl,
        call=_call_sdxl,
        guidance=5.0,
        readers=(("tokenizer", None), ("tokenizer_2", None)),
    ),
    "DiTPipeline": Family(network="transformer", embed=_embed_dit, guidance=4.0, labels=True),
}
"""By the class of the pipeline, as `model_index.json` names it."""


def family_of(name: str, where: str) -> Family:
    """The row of a pipeline class, or a UserError that names the known ones."""
    if name not in FAMILIES:
        raise UserError(f"{where} is a {name}, which has no row yet: {nearest(name, FAMILIES)}")
    return FAMILIES[name]
