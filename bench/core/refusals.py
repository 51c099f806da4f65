"""Calls that a meter cannot count, and the one sentence with which each is refused.

Function transforms (`torch.func`), forward-mode AD, recordings (jit, export, CUDA graphs) and rows
that stand in another dimension than the first would pass the counter by.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bench.core.units import Role


class Unmeterable(RuntimeError):
    """A call that the meter cannot count."""


def refuse_uncountable(
    role: Role, args: tuple[Any, ...], event_shape: tuple[int, ...] | None
) -> None:
    """Raise Unmeterable unless a call with these arguments runs once, on the rows that it shows."""
    refuse_transforms(role)
    refuse_hidden_rows(role, args, event_shape)
    refuse_recording(role, args[0])


def refuse_transforms(role: Role) -> None:
    """Raise Unmeterable under the function transforms of `torch.func`."""
    # torch has no public query for whether a transform is active.
    if torch._C._functorch.maybe_current_level() is not None:
        raise _transformed(role)


def _transformed(role: Role) -> Unmeterable:
    return Unmeterable(
        f"the {role} was called under torch.func or forward-mode AD, which the meter cannot "
        "count; use torch.autograd.grad instead"
    )


def refuse_recording(role: Role, x: Tensor) -> None:
    """Raise Unmeterable while torch records what runs: a replay would not pass the meter."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    recorded = tracing or torch.compiler.is_exporting()
    if recorded or (x.is_cuda and torch.cuda.is_current_stream_capturing()):
        raise Unmeterable(
            f"the {role} was called while jit, export or a CUDA graph records it; "
            "its replay could not be counted"
        )


def refuse_hidden_rows(
    role: Role, args: tuple[Any, ...], event_shape: tuple[int, ...] | None
) -> None:
    """Raise Unmeterable unless every tensor has the rows of the first, and that one its shape.

    Nor may a row carry a tangent, which is a second row that no shape shows.
    """
    x = args[0]
    if type(x) not in (Tensor, torch.nn.Parameter) or x.dim() == 0:
        raise Unmeterable(
            f"the {role} takes a plain tensor with a batch dimension, not a {type(x).__name__}"
        )
    rows = x.shape[0]
    if event_shape is not None:
        refuse_shape(role, x, (rows, *event_shape))
    for given in args:
        if not isinstance(given, Tensor):
            continue
        if given.dim() == 0 or given.shape[0] != rows:
            raise Unmeterable(
                f"the {role} was called with {rows} rows and an argument of shape "
                f"{tuple(given.shape)}; every argument needs the same rows"
            )
        if forward_ad.unpack_dual(given).tangent is not None:  # type: ignore[no-untyped-call]
            raise _transformed(role)


def refuse_shape(role: Role, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise Unmeterable if a tensor has another shape than the rows that are counted."""
    if x.shape != shape:
        raise Unmeterable(f"the {role} saw shape {tuple(x.shape)}, not the counted {tuple(shape)}")


def refuse_other_gradients(role: Role, gradient: Tensor) -> None:
    """Raise Unmeterable in a backward that is not one pass of first derivatives."""
    if torch.is_grad_enabled() or _stands_for_many(gradient):
        raise Unmeterable(
            f"only first derivatives of the {role}, one gradient at a time, can be counted; "
            "do without create_graph and is_grads_batched"
        )


def _stands_for_many(gradient: Tensor) -> bool:
    """Whether `is_grads_batched` passes many gradients as one, which then has no storage."""
    try:
        gradient.data_ptr()
    except RuntimeError:
        return True
    return False
