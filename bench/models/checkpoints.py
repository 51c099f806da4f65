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

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.models import tensor_files
from bench.models.averages import CONTAINERS, bare_names, choose
from bench.models.dit import DiT
from bench.models.dit_layers import position_table
from bench.models.latents import SCALE

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
    notes: which weights of the file were taken, and what their precision is.
    """

    loaded: tuple[str, ...]
    initialised: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded", *self.notes]
        lines += [f"not in the file: {name}: {how}" for name, how in self.initialised.items()]
        lines += [f"replaced: {name}: {how}" for name, how in self.replaced.items()]
        return "\n".join(lines + [f"dropped: {name}" for name in self.dropped])


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file under their bare names, and how they were chosen and changed."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def load_checkpoint(path: Path | str) -> dict[str, Tensor]:
    """The tensors of `read_checkpoint`."""
    return read_checkpoint(path).tensors


def read_checkpoint(path: Path | str) -> Checkpoint:
    """The weights in a safetensors or torch file, whatever its ending, on the CPU.

    A moving average goes before raw weights (`bench.models.averages`), and latent statistics are
    those of our latents or a reason to refuse.  Torch files are read with `weights_only=True`, so
    that none can run code.  UserError where a file is missing, damaged, holds other objects, or
    holds no network.
    """
    path = Path(path)
    content = _content(path)
    try:
        chosen = choose(content)
        if chosen is not None:
            loose = {k: v for k, v in content.items() if k in STATISTICS and isinstance(v, Tensor)}
            tensors, told = _without_statistics({**loose, **chosen.tensors})
            return Checkpoint(tensors, (*chosen.notes, *told))
    except UserError as error:
        raise UserError(f"the checkpoint {path} is refused: {error}") from error
    raise UserError(
        f"the checkpoint {path} holds no state dict, neither by itself nor under "
        f"{', '.join(('ema', *CONTAINERS))}: save a dict of names and tensors"
    )


def _content(path: Path) -> Any:
    try:
        return tensor_files.read(path)
    except tensor_files.HoldsCode as error:
        raise UserError(
            f"the checkpoint {path} is damaged or holds objects that could run code, and is not "
            "opened: where you trust its origin, save its weights alone as .safetensors"
        ) from error
    except tensor_files.Unreadable as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: tensor_files.Unreadable) -> UserError:
    """What is said of a file that is missing, damaged or of another kind."""
    return UserError(f"cannot read the checkpoint {path}, it may be damaged ({error}): fetch it "
                     "again")  # fmt: skip


STATISTICS = {"latents_scale": SCALE, "latents_bias": 0.0}
"""What the release's trainer keeps of its latents: z = scale * (sample - bias), by channel."""


def _without_statistics(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The network's tensors, and a note on the statistics; UserError for those of other latents."""
    said = {name: state[name] for name in STATISTICS if name in state}
    for name, value in said.items():
        if not torch.allclose(value.double(), torch.tensor(STATISTICS[name]).double(), atol=1e-5):
            numbers = ", ".join(f"{v:g}" for v in value.flatten()[:4].tolist())
            raise UserError(
                f"its {name} is {numbers}, and the latents here have {STATISTICS[name]:g}: it was "
                "trained on the latents of another autoencoder; take weights for sd-vae-ft-mse"
            )
    notes = (f"{' and '.join(said)} in the file are those of our latents",) if said else ()
    return {name: value for name, value in state.items() if name not in said}, notes


# -- loading ---------------------------------------------------------------------------------------


def load_map(net: DiT, state: Mapping[str, Tensor]) -> LoadReport:
    """Load a full meta flow map; UserError that names every missing, unexpected or odd tensor."""
    bare = bare_names(state)
    _require_fit(bare, net.state_dict(), "a meta flow map of this size")
    notes = _load(net, bare)
    return LoadReport(tuple(sorted(bare)), notes=notes)


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
    notes = _load(net, flow | values | {name: torch.zeros_like(flow[name]) for name in moved})
    return LoadReport(
        tuple(sorted(flow.keys() - set(moved))),
        {name: how for name, (_, how) in made.items()},
        dict.fromkeys(moved, "zero; the file's embeds s, and u in the last blocks"),
        tuple(dropped),
        notes,
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
    require_sound(state, wanted)
    _require_positions(state, wanted)


SHOWN = 5
"""Unsound tensors that are named; a training that diverged has hundreds."""


def require_sound(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """UserError unless the values are those of a network, see `tensor_files.unsound`."""
    if unsound := tensor_files.unsound(state, wanted):
        more = f"; and {len(unsound) - SHOWN} more" if len(unsound) > SHOWN else ""
        raise UserError(
            f"the checkpoint holds no weights to sample from: {'; '.join(unsound[:SHOWN])}{more}. "
            "Take a file of a training that did not diverge, saved as floating-point numbers"
        )


def _require_positions(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """UserError unless the table of positions is the fixed one, up to the file's precision."""
    found = state["pos_embed"]
    _, tokens, hidden = wanted["pos_embed"].shape
    table = position_table(hidden, math.isqrt(tokens))
    off = float((found.float() - table).abs().max())
    if off > max(1e-5, torch.finfo(found.dtype).eps):
        raise UserError(
            f"the checkpoint's pos_embed is {'zero' if not bool(found.any()) else 'changed'}: it "
            f"differs by {off:.3g} from the sines and cosines that every network of this kind has. "
            "Fetch the file again, or write the table that the network was trained with"
        )


def _load(net: DiT, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copy the tensors in, at the network's precision, and say where the file's is another.

    A network on the meta device adopts them.
    """
    own = net.state_dict()
    cast = {name: value.to(own[name].dtype) for name, value in state.items()}
    net.load_state_dict(cast, strict=True, assign=net.pos_embed.is_meta)
    kept = str(net.pos_embed.dtype).removeprefix("torch.")
    found = tensor_files.precisions(state)
    return tuple(
        f"{count} of {len(state)} tensors are {kind} in the file and {kept} in the network"
        for kind, count in sorted(found.items())
        if kind != kept
    )
