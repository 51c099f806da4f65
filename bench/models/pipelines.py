"""Families of diffusers pipelines, one row of a table each; the next family is one more row.

A row says what differs between families: where the network is, its native path, what a prompt is
to it and how it is called (`pipeline_inputs`), and what the pipeline hands its scheduler.  All else
is shared: the flow (`pipeline_flow`), the schedule (`pipeline_schedules`), the folder
(`pipeline_folder`), the prompts (`pipeline_prompts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.core.params import UserError, nearest
from bench.models.pipeline_blanks import (
    CLIP,
    Blank,
    blank_label,
    blank_masked,
    blank_pooled,
    blank_sdxl,
    blank_states,
)
from bench.models.pipeline_inputs import (
    Call,
    Embed,
    call_flux,
    call_sdxl,
    embed_dit,
    embed_flux,
    embed_sana,
    embed_sd,
    embed_sd3,
    embed_sdxl,
    plain_call,
)

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
    embed, blank, call: see `Embed`, `Blank` and `Call`.
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
    blank: Blank
    call: Call = plain_call
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
        embed=embed_sd3,
        blank=blank_pooled(CLIP + 256),
        unit=1000.0,
        arguments=_sd3_arguments,
        guidance=7.0,
        readers=(("tokenizer", None), ("tokenizer_2", None), ("tokenizer_3", 256)),
    ),
    "FluxPipeline": Family(
        network="transformer",
        embed=embed_flux,
        blank=blank_pooled(512),
        call=call_flux,
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
        embed=embed_sana,
        blank=blank_masked(300),
        unit=1000.0,
        guidance=4.5,
        readers=(("tokenizer", 300),),
    ),
    "StableDiffusionPipeline": Family(
        network="unet",
        embed=embed_sd,
        blank=blank_states(CLIP, "cross_attention_dim"),
        guidance=7.5,
        readers=(("tokenizer", None),),
        settings=(("steps_offset", 1), ("clip_sample", False)),
    ),
    "StableDiffusionXLPipeline": Family(
        network="unet",
        embed=embed_sdxl,
        blank=blank_sdxl,
        call=call_sdxl,
        guidance=5.0,
        readers=(("tokenizer", None), ("tokenizer_2", None)),
    ),
    "DiTPipeline": Family(
        network="transformer", embed=embed_dit, blank=blank_label, guidance=4.0, labels=True
    ),
}
"""By the class of the pipeline, as `model_index.json` names it."""


def family_of(name: str, where: str) -> Family:
    """The row of a pipeline class, or a UserError that names the known ones."""
    if name not in FAMILIES:
        raise UserError(f"{where} is a {name}, which has no row yet: {nearest(name, FAMILIES)}")
    return FAMILIES[name]
