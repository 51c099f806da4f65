"""What plugins return, checked where it comes in: a cell fails with one sentence, and nothing else.

Diagnostics may be infinite or NaN, which says something; scores, weights and samples may not.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.core.finite import all_finite
from bench.core.values import Fitted, Samples

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""What ids of groups may be."""


class BadReturn(TypeError):
    """A plugin returned what its contract excludes: which plugin, what, and what it should be."""


def checked_samples(found: Any, owner: str, n: int | None, event_shape: tuple[int, ...]) -> Samples:
    """Samples with float32 states of the asked shape, their weights and groups (n,), numbers plain.

    `n` is None for a checkpoint, which may hold any number.  Raises BadReturn; FloatingPointError
    for states that are not finite.
    """
    if not isinstance(found, Samples):
        raise BadReturn(f"{owner} returned {_kind(found)}, not Samples")
    x = _tensor(found.x, f"{owner} returned samples", (torch.float32,))
    rows = len(x) if n is None and x.dim() else n
    if x.shape != (rows, *event_shape):
        raise BadReturn(
            f"{owner} returned samples of shape {tuple(x.shape)}, "
            f"asked for {rows} of shape {tuple(event_shape)}"
        )
    if not all_finite(x):
        raise FloatingPointError(f"{owner} returned samples that are not finite")
    z = None if found.log_z is None else number(found.log_z, f"{owner} returned log_z")
    return Samples(
        x,
        None if found.log_weight is None else _weights(found.log_weight, owner, len(x)),
        None if found.group is None else _groups(found.group, owner, len(x)),
        z,
        plain_numbers(found.info, f"{owner} returned info"),
    )


def _weights(found: Any, owner: str, n: int) -> Tensor:
    said = f"{owner} returned log_weight"
    weights = _tensor(found, said, (torch.float32, torch.float64))
    _of_shape(weights, said, n)
    if weights.isnan().any() or (weights == torch.inf).any() or (weights == -torch.inf).all():
        raise BadReturn(f"{said} with values that are no logarithms of weights (NaN or infinite)")
    return weights


def _groups(found: Any, owner: str, n: int) -> Tensor:
    groups = _tensor(found, f"{owner} returned group", WHOLE)
    _of_shape(groups, f"{owner} returned group", n)
    return groups


def checked_scores(found: Any, owner: str, n: int) -> Tensor:
    """Scores (n,), finite; raises BadReturn."""
    said = f"{owner} returned scores"
    scores = _tensor(found, said, (torch.float32, torch.float64))
    _of_shape(scores, said, n)
    if not all_finite(scores):
        row = int((~torch.isfinite(scores)).int().argmax())
        raise BadReturn(f"{said} that are not finite: {float(scores[row])} for sample {row}")
    return scores


def checked_fitted(found: Any, owner: str) -> Fitted:
    """What a fit left: tensors by name, and a record of plain numbers; raises BadReturn."""
    if not isinstance(found, Fitted) or not isinstance(found.state, Mapping):
        raise BadReturn(f"the fit of {owner} returned {_kind(found)}, not Fitted")
    for name, value in found.state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BadReturn(f"the fit of {owner} left {_kind(value)} as {name!r}, not a tensor")
    return Fitted(dict(found.state), plain_numbers(found.record, f"the fit of {owner} recorded"))


def plain_numbers(found: Any, said: str) -> dict[str, float]:
    """Names and numbers, whatever kind of scalar they are: of NumPy, a tensor, a whole number."""
    if not isinstance(found, Mapping):
        raise BadReturn(f"{said} as {_kind(found)}, not as names and numbers")
    return {str(name): number(value, f"{said} '{name}'") for name, value in found.items()}


def number(found: Any, said: str) -> float:
    """A real scalar as a number; raises BadReturn."""
    try:
        if isinstance(found, Tensor):
            found = found.detach().item()
        elif hasattr(found, "item"):
            found = found.item()
        if isinstance(found, numbers.Real):
            return float(found)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise BadReturn(f"{said} as {_kind(found)}, which is no single number") from error
    raise BadReturn(f"{said} as {_kind(found)}, which is no single number")


def _tensor(found: Any, said: str, allowed: tuple[torch.dtype, ...]) -> Tensor:
    if not isinstance(found, Tensor):
        raise BadReturn(f"{said} as {_kind(found)}, not as a tensor")
    if found.dtype not in allowed or found.layout != torch.strided:
        wanted = " or ".join(_name(dtype) for dtype in allowed)
        layout = "" if found.layout == torch.strided else f" {_name(found.layout)}"
        raise BadReturn(f"{said} of type{layout} {_name(found.dtype)}, not {wanted}")
    return found


def _of_shape(found: Tensor, said: str, n: int) -> None:
    if found.shape != (n,):
        raise BadReturn(f"{said} of shape {tuple(found.shape)} for {n} samples, not ({n},)")


def _name(kind: object) -> str:
    return str(kind).removeprefix("torch.")


def _kind(found: Any) -> str:
    """What a value is, for a sentence."""
    if isinstance(found, Tensor):
        return f"a {_name(found.dtype)} tensor of shape {tuple(found.shape)}"
    return f"a value of type {type(found).__name__}"
