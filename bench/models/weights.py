"""Shipped and user-trained weights: safetensors beside a JSON recipe, loaded strictly.

A file `NAME.safetensors` holds several networks, told apart by prefix ("flow.", "map.", ...).
TILTBENCH_WEIGHTS may name a folder that is searched before the package's own.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from torch import Tensor, nn

from bench.core.own_files import own_json
from bench.core.params import UserError
from bench.models import tensor_files
from bench.models.external import file_digest, load_strictly

PACKAGE = Path(__file__).parent.parent / "weights"


VARIABLE = "TILTBENCH_WEIGHTS"


def folders() -> list[Path]:
    """Where weights are looked for; UserError for a folder of one's own that is not there."""
    override = os.environ.get(VARIABLE)
    if not override:
        return [PACKAGE]
    if not Path(override).is_dir():
        raise UserError(
            f"{VARIABLE} names {override}, which is no folder: give the folder of 'bench train "
            f"TASK --to FOLDER', or unset {VARIABLE}"
        )
    return [Path(override), PACKAGE]


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in PACKAGE.glob("*.safetensors"))


def find(name: str) -> Path:
    """The path of NAME.safetensors, or a UserError naming where it was looked for."""
    places = folders()
    for folder in places:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    looked = ", ".join(map(str, places))
    raise UserError(f"no weights '{name}.safetensors' in {looked}: run 'bench train {name}'")


@cache
def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; a truncated or foreign file is a UserError."""
    try:
        return dict(tensor_files.read(path))
    except (tensor_files.Unreadable, tensor_files.HoldsCode) as error:
        raise UserError(
            f"the weights {path} cannot be read ({error}): restore the file or train it again"
        ) from error


def hashes(name: str) -> dict[str, str]:
    """{name: SHA-256 of its file}, as a task declares what decides its samples."""
    return {name: file_digest(find(name))}


def training(name: str) -> dict[str, float]:
    """Paper-nfe of training, from the recipe beside the weights; empty without one."""
    recipe = find(name).with_suffix(".json")
    if not recipe.is_file():
        return {}
    spent: dict[str, float] = own_json(recipe, "train again, or restore it").get("training", {})
    return spent


def load_into(module: nn.Module, name: str, prefix: str) -> nn.Module:
    """Load the tensors under `prefix.` into a module, all of them and nothing else; freeze it."""
    path = find(name)
    state = {
        key.removeprefix(f"{prefix}."): value
        for key, value in read_weights(path).items()
        if key.startswith(f"{prefix}.")
    }
    if not state:
        raise UserError(f"the weights {path} hold no '{prefix}' network: run 'bench train {name}'")
    load_strictly(module, state, f"'{prefix}' in {path}")
    return module.requires_grad_(False).eval()
