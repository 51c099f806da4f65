"""A tiny diffusion transformer, with tensors and outputs of the authors' release."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open
from torch import Tensor

from bench.models.checkpoints import load_map
from bench.models.dit import DiT, DiTConfig

FIXTURE = Path(__file__).parent / "data" / "mfm_tiny.safetensors"
TINY = DiTConfig(8, patch=2, channels=4, hidden=32, depth=3, heads=4, classes=10, encoder_depth=2)


def part(name: str) -> dict[str, Tensor]:
    with safe_open(FIXTURE, "pt") as file:
        names = [key for key in file.keys() if key.startswith(f"{name}/")]  # noqa: SIM118
        return {key.removeprefix(f"{name}/"): file.get_tensor(key) for key in names}


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """The release's tensors, with the prefix that its files carry."""
    return part("param")


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    return part("input")


def ready(state: dict[str, Tensor], config: DiTConfig = TINY) -> DiT:
    net = DiT(config)
    load_map(net, state)
    return net.requires_grad_(False)
