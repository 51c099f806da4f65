"""Public weights of latent transformers: whose a file is, its size, and the network in it.

All become a `DiT`.  What differs is which way the time runs, which outputs the file has, and
whether the network is a meta flow map or a flow that a map can start from:

mfm   meta flow maps (arXiv 2601.14430), with their context and a table of guidance scales
dmf   flows with two times (Decoupled MeanFlow, arXiv 2510.24474); time 1 is noise
repa  SiT as retrained by REPA (arXiv 2410.06940): velocity alone, time 1 is noise
sit   SiT (arXiv 2401.08740): velocity and variance, time 1 is data
dit   DiT (arXiv 2212.09748): the noise and its variance, a thousand steps of diffusion

Names and shapes cannot tell the last two apart, nor the second and the third: the user says whose
a file is, and everything that can contradict is checked.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.models import tensor_files
from bench.models.averages import choose
from bench.models.checkpoints import (
    LoadReport,
    initialise_from_flow,
    load_checkpoint,
    load_map,
    read_checkpoint,
    require_sound,
    unreadable,
)
from bench.models.dit import DiT, DiTConfig
from bench.models.dit_layers import FREQUENCIES, time_rates

State = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

TABLE = "guidance_embedder.embedding_table.weight"
OUTPUT = ("final_layer.linear.weight", "final_layer.linear.bias")
TIME = "t_embedder.mlp.0.weight"
TRAINER_HEADS = ("logvar_linear.",)
"""What a file as DMF's trainer writes it holds besides, used by its loss alone."""

SIZES: dict[tuple[int, int], tuple[int, int]] = {
    (384, 12): (6, 0),
    (768, 12): (12, 8),
    (1024, 24): (16, 0),
    (1152, 28): (16, 20),
}
"""(hidden, depth) of S, B, L and XL -> (heads, encoder depth of the maps; 0: none was published).

Neither can be read off the tensors.
"""
RELEASED_SCALES = (1.0, 2.5)
"""Guidance scales of the released maps (arXiv 2601.14430, F.3)."""


# -- whose a file is -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """How the tensors of a file become those of a `DiT`.

    `load` fills the network.  `is_map`: whether it then draws from posteriors.  `outputs`: channels
    of the final layer per channel of the latents.
    """

    summary: str
    load: Callable[[DiT, State], LoadReport]
    is_map: bool = False
    outputs: int = 1


def _two_times(net: DiT, state: State) -> LoadReport:
    return initialise_from_flow(net, state, drop=TRAINER_HEADS)


def _towards_data(net: DiT, state: State) -> LoadReport:
    """SiT's t is our own: its file is rewritten for the network's time 1 - t, exactly."""
    told = {TIME: "the same function of 1 - t"} | dict.fromkeys(OUTPUT, "the velocity, negated")
    report = initialise_from_flow(net, _negated(_reversed(_first_half(net.config, state))))
    return replace(report, replaced={**report.replaced, **told})


def _noise(net: DiT, state: State) -> LoadReport:
    """DiT's outputs are the noise, which the network's sign must not turn."""
    told = dict.fromkeys(OUTPUT, "the noise, negated")
    report = initialise_from_flow(net, _negated(_first_half(net.config, state)))
    return replace(report, replaced={**report.replaced, **told})


FAMILIES: Mapping[str, Family] = {
    "mfm": Family("a meta flow map", load_map, is_map=True),
    "dmf": Family("a decoupled mean flow, as the flow that it is", _two_times),
    "repa": Family("SiT as retrained by REPA", initialise_from_flow),
    "sit": Family("the original SiT", _towards_data, outputs=2),
    "dit": Family("DiT, a diffusion", _noise, outputs=2),
}


def _first_half(config: DiTConfig, state: State) -> dict[str, Tensor]:
    """The file without its variance: within a patch, the second half of every pixel's channels."""
    out, patches = dict(state), config.patch**2
    for name in OUTPUT:
        pixels = out[name].reshape(patches, 2 * config.channels, *out[name].shape[1:])
        out[name] = pixels[:, : config.channels].flatten(0, 1)
    return out


def _negated(state: State) -> dict[str, Tensor]:
    return {**state, **{name: -state[name] for name in OUTPUT}}


def _reversed(state: State) -> dict[str, Tensor]:
    """The embedder of t as a function of 1 - t.

    cos w(1 - s) = cos w cos ws + sin w sin ws and sin w(1 - s) = sin w cos ws - cos w sin ws, so
    the features of t are a fixed linear map of those of s = 1 - t, absorbed by the first layer.
    """
    old = state[TIME].double()
    rate = time_rates(torch.float64)
    of_cos, of_sin = old[:, :FREQUENCIES], old[:, FREQUENCIES:]
    new = torch.cat(
        [of_cos * rate.cos() + of_sin * rate.sin(), of_cos * rate.sin() - of_sin * rate.cos()], 1
    )
    return {**state, TIME: new.to(state[TIME].dtype)}


# -- its size --------------------------------------------------------------------------------------


def shapes_of(path: Path) -> tuple[Shapes, Mapping[str, str]]:
    """Shapes by bare name, and the settings in a safetensors file's metadata (as released).

    Reads the header of a safetensors file alone, and every content once.
    """
    stat = path.stat()
    return _shapes(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _shapes(path: Path, _size: int, _changed: int) -> tuple[Shapes, Mapping[str, str]]:
    try:
        if not tensor_files.is_safetensors(path):
            return {name: tuple(value.shape) for name, value in load_checkpoint(path).items()}, {}
        found, settings = tensor_files.header(path)
    except tensor_files.Unreadable as error:
        raise unreadable(path, error) from error
    try:
        chosen = choose(found)
    except UserError as error:
        raise UserError(f"the checkpoint {path} is refused: {error}") from error
    tensors = {} if chosen is None else chosen.tensors
    return {name: tuple(value.shape) for name, value in tensors.items()}, settings


BLOCK = re.compile(r"blocks\.(\d+)\.")


def config_of(path: Path, family: str) -> DiTConfig:
    """The shape of the network in a file.

    Raises UserError where the file is of another family, or of a size that it does not say.
    """
    shapes, settings = shapes_of(path)
    kind = FAMILIES[family]
    _require_family(path, shapes, family)
    hidden, channels, patch, _ = shapes["x_embedder.proj.weight"]
    depth = 1 + max(int(block[1]) for block in map(BLOCK.match, shapes) if block)
    heads, encoder_depth = _unwritten(path, kind, hidden, depth, settings)
    try:
        return DiTConfig(
            input_size=math.isqrt(shapes["pos_embed"][1]) * patch,
            patch=patch,
            channels=channels,
            hidden=hidden,
            depth=depth,
            heads=heads,
            classes=shapes["y_embedder.embedding_table.weight"][0] - 1,
            encoder_depth=encoder_depth,
            guidance_scales=_scales(path, shapes, settings),
            qk_norm="blocks.0.attn.q_norm.scale" in shapes,
        )
    except ValueError as error:
        raise UserError(
            f"the checkpoint {path} and the settings in its metadata contradict each other "
            f"({error}): write them as the network was trained"
        ) from error


NEEDED = {
    "x_embedder.proj.weight": 4,
    "pos_embed": 3,
    "y_embedder.embedding_table.weight": 2,
    "blocks.0.attn.qkv.weight": 2,
    TIME: 2,
    "final_layer.linear.weight": 2,
    "final_layer.linear.bias": 1,
}
"""What every family has, from which the size is read and the outputs are turned -> dimensions."""


def _require_family(path: Path, shapes: Shapes, family: str) -> None:
    """UserError unless a file may be of the family."""
    if missing := [name for name in NEEDED if name not in shapes]:
        raise UserError(
            f"the checkpoint {path} has no tensor {missing[0]}: it is no file of "
            f"{', '.join(FAMILIES)}; give one of these"
        )
    for name, dimensions in NEEDED.items():
        if len(shapes[name]) != dimensions:
            raise UserError(
                f"the checkpoint {path} is no file of {', '.join(FAMILIES)}: its {name} is "
                f"{shapes[name]}, which has {len(shapes[name])} dimensions, not {dimensions}"
            )
    hidden, channels, patch, _ = shapes["x_embedder.proj.weight"]
    fixed = {TIME: (hidden, 2 * FREQUENCIES), OUTPUT[1]: shapes[OUTPUT[0]][:1]}
    for name, shape in fixed.items():
        if shapes[name] != shape:
            raise UserError(
                f"the checkpoint {path} contradicts itself: {name} is {shapes[name]}, and the "
                f"other tensors ask for {shape}; fetch it again"
            )
    is_map = any(name.startswith("x_cond_") for name in shapes)
    outputs = shapes["final_layer.linear.weight"][0] / (patch**2 * channels)
    kind = FAMILIES[family]
    if (kind.is_map, kind.outputs) != (is_map, outputs):
        fitting = [n for n, k in FAMILIES.items() if (k.is_map, k.outputs) == (is_map, outputs)]
        also = f"give family={' or '.join(fitting)}" if fitting else "no family here has those"
        context = "a context" if is_map else "no context"
        raise UserError(
            f"the checkpoint {path} is not of the family '{family}': it has {context} and "
            f"{outputs:g} times as many outputs as channels; {also}"
        )


def _unwritten(
    path: Path, kind: Family, hidden: int, depth: int, settings: Mapping[str, str]
) -> tuple[int, int]:
    """Heads and encoder depth; a plain flow has none of the latter and any will do."""
    heads, encoder_depth = SIZES.get((hidden, depth), (0, 0))
    heads = int(settings.get("num_heads", heads))
    encoder_depth = int(settings.get("encoder_depth", encoder_depth))
    encoder_depth = encoder_depth or (0 if kind.is_map else depth)
    if not heads or not encoder_depth:
        known = ", ".join(f"{d} blocks of {h}" for h, d in SIZES)
        raise UserError(
            f"the checkpoint {path} has {depth} blocks of width {hidden}, a size that was not "
            f"published ({known} were): save it as safetensors with num_heads and encoder_depth "
            "in the metadata"
        )
    return heads, encoder_depth


def _scales(path: Path, shapes: Shapes, settings: Mapping[str, str]) -> tuple[float, ...]:
    """The guidance scales of the table's rows, 1 first; a file without a table knows 1 alone."""
    rows = shapes.get(TABLE, (1,))[0]
    told = settings.get("model_guidance_class_ws", "")
    scales = (1.0, *map(float, ast.literal_eval(told))) if told else RELEASED_SCALES[:rows]
    if TABLE in shapes and len(scales) != rows:
        raise UserError(
            f"the checkpoint {path} knows {rows} guidance scales and does not say which: save it "
            "as safetensors with model_guidance_class_ws, those after 1, in the metadata"
        )
    return scales if TABLE in shapes else (1.0,)


# -- the network -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkFile:
    """A network with the weights of a file, frozen, and how each of its tensors came about."""

    net: DiT
    report: LoadReport


def read_network(
    path: Path, family: str, guidance_scales: tuple[float, ...] | None = None
) -> NetworkFile:
    """The network of a file; with `guidance_scales`, a map to train that starts as the flow.

    Raises UserError that names every tensor that is missing, unexpected or mis-shaped.
    """
    config = config_of(path, family)
    if guidance_scales is not None:
        config = replace(config, guidance_scales=guidance_scales)
    with torch.device("meta"):
        net = DiT(config)
    file = read_checkpoint(path)
    turned = {name: file.tensors[name] for name in (TIME, *OUTPUT)}
    try:
        require_sound(turned, net.state_dict())
        report = FAMILIES[family].load(net, file.tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    report = replace(report, notes=(*file.notes, *report.notes))
    return NetworkFile(net.requires_grad_(False).eval(), report)
