"""Public checkpoints of the MFM / DMF / SiT family: read safely, loaded strictly, explained.

Two kinds of file fit a `DiT`.  A full meta flow map holds every tensor (`load_map`).  A plain flow
holds one time embedder and no context; `initialise_from_flow` makes a map of it that starts as
exactly that flow.  The public files of both SiT (as retrained by REPA and DMF, with time 1 = noise)
and DMF are of this second kind: DMF's network uses its one `t_embedder` twice, on s in the first
blocks and on u in the others.  A file with the full set of s/u embedders but without a context is
taken too.  Files of the original SiT, whose time runs the other way, predict a variance as well
and are refused for the shape of `final_layer.linear`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.models.dit import DiT

PREFIXES = ("module.", "model.", "dit.")
"""Wrappers (data parallel, the authors' two) whose names precede a tensor's own."""
CONTAINERS = ("ema", "state_dict", "model")
"""Where training files keep the weights; the average comes first, it is what is sampled from."""

TIME_EMBEDDERS = ("s_embedder.", "s_embedder_second.", "t_embedder_second.")
"""The time embedders that a plain flow lacks; a file holds all of them or none."""
GUIDANCE = ("guidance_embedder.",)
CONTEXT = ("x_cond_", "t_cond_")
COPIED = {
    "s_embedder.": "t_embedder.",
    "t_embedder_second.": "t_embedder.",
    "s_embedder_second.mlp.0.": "t_embedder.mlp.0.",
    "t_cond_embedder.mlp.0.": "t_embedder.mlp.0.",
    "x_cond_embedder.": "x_embedder.",
}
"""Where a new tensor comes from: name -> name in the file."""
CLOSED = "x_cond_adaLN.1.bias"
"""Bias [shift, scale] of the context branch: zero and -1 at the start."""
SILENCED = ("t_embedder.mlp.2.",)
"""The first blocks see s at the start; u's own embedder there begins at zero."""


@dataclass(frozen=True)
class LoadReport:
    """Which tensors came from the file and how the others came about; `str` of it is for people.

    initialised: names that were not in the file, and how each was set.  replaced: names that were
    in the file and start as something else.  dropped: tensors of the file that the caller excluded.
    """

    loaded: tuple[str, ...]
    initialised: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded"]
        lines += [f"not in the file: {name}: {how}" for name, how in self.initialised.items()]
        lines += [f"replaced: {name}: {how}" for name, how in self.replaced.items()]
        return "\n".join(lines + [f"dropped: {name}" for name in self.dropped])


# -- reading ---------------------------------------------------------------------------------------


def load_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .ckpt file on the CPU, under their bare names.

    Torch files are read with `weights_only=True`, so that none can run code.  UserError where
    a file is missing, damaged, holds other objects, or holds no network.
    """
    path = Path(path)
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    return bare_names(_weights_of(read(path), path))


def bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the names of wrappers; two that coincide are a UserError."""
    bare: dict[str, Tensor] = {}
    for full, value in state.items():
        name = full
        while name.startswith(PREFIXES):
            name = name.partition(".")[2]
        if name in bare:
            raise UserError(f"the checkpoint holds '{name}' twice, under different prefixes")
        bare[name] = value
    return bare


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read the checkpoint {path} ({error}): fetch it again") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"the checkpoint {path} is damaged or holds objects that could run code, and is not "
            "opened: where you trust its origin, save its weights alone as .safetensors"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot read the checkpoint {path} ({error}): fetch it again") from error


def _weights_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a file: its content, or what the first known container holds."""
    if isinstance(content, Mapping):
        found = (content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping))
        state = next(found, content)
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return dict(state)
    raise UserError(
        f"the checkpoint {path} holds no state dict, neither by itself nor under "
        f"{', '.join(CONTAINERS)}: save a dict of names and tensors"
    )


# -- loading ---------------------------------------------------------------------------------------


def load_map(net: DiT, state: Mapping[str, Tensor]) -> LoadReport:
    """Load a full meta flow map; UserError that names every missing, unexpected or odd tensor."""
    bare = bare_names(state)
    _require_fit(bare, net.state_dict(), "a meta flow map of this size")
    _load(net, bare)
    return LoadReport(tuple(sorted(bare)))


def initialise_from_flow(
    net: DiT, state: Mapping[str, Tensor], drop: tuple[str, ...] = ()
) -> LoadReport:
    """Make a plain flow's weights a meta flow map with v_{t,t}(x_bar; tau, x) = b_t(x_bar).

    s is embedded by the flow's time embedder in the first blocks, u in the others; the two
    remaining embedders, the context's time and guidance start at zero, and the context patches are
    multiplied by 0.  `drop` names what to leave out, by its beginning: a file as DMF's trainer
    writes it carries a head, "logvar_linear.", that only its loss used.  UserError that names every
    other tensor that is missing, unexpected or mis-shaped.
    """
    bare = bare_names(state)
    dropped = _starting(bare, drop)
    flow = {name: value for name, value in bare.items() if name not in dropped}
    wanted = net.state_dict()
    absent = _starting(wanted, CONTEXT)
    for group in (TIME_EMBEDDERS, GUIDANCE):
        absent += [] if _starting(flow, group) else _starting(wanted, group)
    _require_fit(flow, {n: v for n, v in wanted.items() if n not in absent}, "a flow of this size")

    made = {name: _made(name, flow, wanted[name].shape) for name in absent}
    moved = [] if _starting(flow, TIME_EMBEDDERS) else _starting(flow, SILENCED)
    values = {name: value for name, (value, _) in made.items()}
    _load(net, flow | values | {name: torch.zeros_like(flow[name]) for name in moved})
    return LoadReport(
        tuple(sorted(flow.keys() - set(moved))),
        {name: how for name, (_, how) in made.items()},
        dict.fromkeys(moved, "zero; the file's embeds s, and u in the last blocks"),
        tuple(dropped),
    )


def _starting(names: Iterable[str], beginnings: tuple[str, ...]) -> list[str]:
    return sorted(name for name in names if name.startswith(beginnings))


def _made(name: str, flow: Mapping[str, Tensor], shape: torch.Size) -> tuple[Tensor, str]:
    """The first value of a tensor that the file lacks, and where it comes from."""
    for new, old in COPIED.items():
        if name.startswith(new):
            source = old + name.removeprefix(new)
            # two parameters that shared memory would be trained as one
            return flow[source].clone(), f"copy of {source}"
    if name == CLOSED:
        half = torch.zeros(shape[0] // 2)
        return torch.cat([half, half - 1]), "shift 0, scale -1: the context is multiplied by 0"
    return torch.zeros(shape), "zero"


def _require_fit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """UserError unless both have the same names with the same shapes."""
    problems = [f"missing {name}" for name in sorted(wanted.keys() - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - wanted.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(state.keys() & wanted.keys())
        if state[name].shape != wanted[name].shape
    ]
    if problems:
        raise UserError(
            f"the checkpoint is not {what}: {'; '.join(problems)}. Choose the configuration that "
            "the file was trained with"
        )


def _load(net: DiT, state: Mapping[str, Tensor]) -> None:
    """Copy the tensors in, at the network's precision; a network on the meta device adopts them."""
    own = net.state_dict()
    cast = {name: value.to(own[name].dtype) for name, value in state.items()}
    net.load_state_dict(cast, strict=True, assign=net.pos_embed.is_meta)
