"""Files of tensors, told apart by their first bytes: a name's ending promises nothing.

safetensors, and torch's own format with `weights_only`, so that none can run code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

HEADER_BYTES = 8
"""A safetensors file begins with the length of its JSON header, little-endian."""
TORCH = (b"PK", b"\x80")
"""How torch's files begin: a ZIP archive, or, of old, a bare pickle."""
SHOWN = 40


class Unreadable(ValueError):
    """A file is missing, damaged or of another kind; the text says which."""


class HoldsCode(ValueError):
    """A file holds objects that would run code; the text says which."""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do.  Raises Unreadable where it cannot be opened."""
    start = _start(path)
    length = int.from_bytes(start[:HEADER_BYTES], "little")
    return start[HEADER_BYTES : HEADER_BYTES + 1] == b"{" and length < 2**40


def read(path: Path) -> Any:
    """The content of a file on the CPU: {name: tensor} of safetensors, anything of torch's.

    Raises Unreadable and HoldsCode.
    """
    if is_safetensors(path) or path.suffix == ".safetensors":
        return _safetensors(path)
    start = _start(path)
    if not start.startswith(TORCH):
        raise Unreadable(_foreign(start))
    return _torch(path)


def header(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors of a safetensors file on the meta device, and its metadata; no value is read.

    Raises Unreadable.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            found = {
                name: torch.empty(file.get_slice(name).get_shape(), device="meta")
                for name in file.keys()  # noqa: SIM118
            }
            return found, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise Unreadable(str(error)) from error


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(256)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def _foreign(start: bytes) -> str:
    """What a file is that begins as no file of tensors does."""
    if not start:
        return "it is empty"
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        # a letter may be cut in two by where reading stopped
        if error.start < len(start) - 3:
            return "it is neither safetensors nor a file of torch"
        text = start[: error.start].decode()
    if text.startswith("version https://git-lfs"):
        return "it is a pointer of git-lfs, not the file itself: run 'git lfs pull'"
    first = text.strip().partition("\n")[0]
    return f"it is text, which begins with {json.dumps(first[:SHOWN], ensure_ascii=False)}"


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise Unreadable(str(error)) from error


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise Unreadable(_first(error)) from error
    except Exception as error:  # pickle's own errors have no common base
        raise HoldsCode(_first(error)) from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


# -- values ----------------------------------------------------------------------------------------


def unsound(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Why the values of a file are not those of a network, a sentence's part for each tensor.

    `wanted` are the network's own tensors: a file's must be real numbers where these are, finite,
    and whole numbers where these are.  Loading would turn one kind into the other without a word.
    """
    found = ((name, _fault(state[name], wanted[name])) for name in sorted(state.keys() & wanted))
    return [f"{name} {why}" for name, why in found if why]


def not_finite(module: nn.Module) -> str:
    """The first tensor of a loaded network that holds NaN or infinity, and what; "" for none."""
    for name, value in module.state_dict().items():
        if why := _fault(value, value):
            return f"{name} {why}"
    return ""


def _fault(value: Tensor, own: Tensor) -> str:
    if _kind(value) != _kind(own):
        return f"holds {_kind(value)}, not {_kind(own)}"
    if value.is_meta or not value.is_floating_point():
        return ""
    bad = int((~value.isfinite()).sum())
    if not bad:
        return ""
    what = "NaN" if bool(value.isnan().any()) else "infinity"
    return f"holds {what} ({bad} of {value.numel()} numbers are not finite)"


def _kind(value: Tensor) -> str:
    if value.is_complex():
        return "complex numbers"
    if value.dtype is torch.bool:
        return "true and false"
    return "real numbers" if value.is_floating_point() else "whole numbers"


def precisions(state: Mapping[str, Tensor], names: Iterable[str] | None = None) -> dict[str, int]:
    """How many tensors each floating type has, as `bfloat16`."""
    counts: dict[str, int] = {}
    for name in state if names is None else names:
        if state[name].is_floating_point():
            kind = str(state[name].dtype).removeprefix("torch.")
            counts[kind] = counts.get(kind, 0) + 1
    return counts
