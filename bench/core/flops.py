"""FLOPs per call, counted once per callable, shape, dtype and gradient mode, then priced.

A call of B rows costs a + b B: `a` is work shared by the batch (a time embedding), `b` is per row.
Both come from two counted calls; afterwards pricing is arithmetic.  What is counted is what torch's
FlopCounterMode knows: matrix products, convolutions and attention (with the written-out back end,
since fused CPU attention counts as zero).  Element-wise work is not.

On fake tensors the same count takes neither weights nor memory: `price_unbuilt` prices a network
that was never made, for planning, and `price` turns to it where the rows of a count do not fit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from bench.core.accelerator import settle
from bench.core.divided import is_divided
from bench.core.integrate import same_everywhere

FEW, MORE = 3, 6
"""Rows of the two counted calls."""


@dataclass(frozen=True)
class Affine:
    """FLOPs of a call as a function of its rows."""

    shared: float
    per_row: float

    def __call__(self, rows: int) -> float:
        return self.shared + self.per_row * rows


@dataclass(frozen=True)
class Price:
    """FLOPs of a callable's forward and backward."""

    forward: Affine
    backward: Affine


_PRICES: dict[tuple[Any, ...], Price] = {}


def price(
    key: tuple[Any, ...],
    fn: Callable[..., Tensor],
    args: tuple[Any, ...],
    trained: Sequence[Tensor] = (),
) -> tuple[Price, float]:
    """The price of `fn` at the shapes, dtypes and gradient mode of `args`, counted at most once.

    Returns it with the seconds that counting took, 0 if it was known.

    Times that the whole batch shares have a price of their own, since networks then do the work of
    conditioning once.  `key` names the callable across cells; tensors with the batch's length are
    cut to a few rows for the count.  A backward reaches the inputs that need a gradient and the
    parameters that are `trained`.
    """
    grad = torch.is_grad_enabled()
    modes = tuple(
        (tuple(a.shape[1:]), a.dtype, grad and a.requires_grad, a.dim() == 1 and same_everywhere(a))
        if isinstance(a, Tensor)
        else ()
        for a in args
    )
    trainable = [p for p in trained if grad and p.requires_grad]
    full = (key, modes, grad, len(trainable))
    known = _PRICES.get(full)
    if known is not None:
        return known, 0.0
    settle()
    started = time.perf_counter()
    _PRICES[full] = _real(fn, args, trainable) or _unreal(fn, args)
    settle()
    return _PRICES[full], time.perf_counter() - started


def _real(
    fn: Callable[..., Tensor], args: tuple[Any, ...], trained: Sequence[Tensor]
) -> Price | None:
    """Counted on rows that are computed; None if they do not fit and nothing is trained."""
    try:
        _first(fn, args, FEW)
        return _counted(fn, args, trained)
    except torch.OutOfMemoryError:
        if trained:
            raise
        return None


def _unreal(fn: Callable[..., Tensor], args: tuple[Any, ...]) -> Price:
    """Counted on fake rows of real weights, after one real row."""
    _first(fn, args, 1)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return _counted(fn, tree_map_only(Tensor, mode.from_tensor, args), ())


@torch.no_grad()
def _first(fn: Callable[..., Tensor], args: tuple[Any, ...], rows: int) -> None:
    """What a first call computes once and remembers is nobody's price."""
    fn(*(_cut(value, args[0].shape[0], rows) for value in args))


Unbuilt = Callable[[], tuple[Callable[..., Tensor], tuple[Any, ...]]]
"""() -> a callable that is made for a count alone, and arguments of two rows."""


def price_unbuilt(make: Unbuilt, backward: bool = True) -> Price:
    """The price of a callable that exists for the count alone: no weights, no arithmetic.

    `make` builds the callable and arguments of a few rows, inside torch's FakeTensorMode;
    `backward` counts gradients in every floating argument as well.  Raises what fake tensors raise
    (their values are unknown) if a shape or a branch depends on a value.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        fn, args = make()
        if backward:
            args = tuple(map(_differentiable, args))
        return _counted(fn, args, ())


def _differentiable(value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1
    return value.requires_grad_() if floating else value


def _counted(fn: Callable[..., Tensor], args: tuple[Any, ...], trained: Sequence[Tensor]) -> Price:
    few, more = (_count(fn, args, rows, trained) for rows in (FEW, MORE))
    return Price(_line(few[0], more[0]), _line(few[1], more[1]))


def _line(few: float, more: float) -> Affine:
    per_row = (more - few) / (MORE - FEW)
    return Affine(few - per_row * FEW, per_row)


def _count(
    fn: Callable[..., Tensor], args: tuple[Any, ...], rows: int, trained: Sequence[Tensor]
) -> tuple[float, float]:
    """FLOPs of one forward and one backward of `rows` rows, in the caller's gradient mode."""
    leaves = [_cut(value, args[0].shape[0], rows) for value in args]
    # The counter fails on gradients of a leaf that is fed straight into a module, hence `* 1`.
    inputs = [v * 1 if isinstance(v, Tensor) and v.requires_grad else v for v in leaves]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = fn(*inputs)
    forward = float(counter.get_total_flops())
    wanted = [v for v in leaves if isinstance(v, Tensor) and v.requires_grad] + list(trained)
    if not out.requires_grad or not wanted:
        return forward, 0.0
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _differentiate(out.sum(), wanted)
    return forward, float(counter.get_total_flops())


def _differentiate(out: Tensor, wanted: Sequence[Tensor]) -> None:
    """The gradients of `wanted`, for nobody."""
    divided = [tensor for tensor in wanted if is_divided(tensor)]
    if not divided:
        torch.autograd.grad(out, wanted, allow_unused=True)
        return
    # No graph leads to the part that a worker holds: FSDP hands it its gradient after a backward.
    before = [tensor.grad for tensor in divided]
    for tensor in divided:
        tensor.grad = None
    out.backward()  # type: ignore[no-untyped-call]
    for tensor, gradient in zip(divided, before, strict=True):
        tensor.grad = gradient


def _cut(value: Any, batch: int, rows: int) -> Any:
    """`rows` rows of a batched tensor, a leaf if the original needs a gradient."""
    if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != batch:
        return value
    # From all over the batch: a rollout's times come in blocks of equal ones.
    index = torch.arange(rows, device=value.device) * batch // rows
    return value.detach()[index].requires_grad_(value.requires_grad and torch.is_grad_enabled())


def counted(run: Callable[[], Any]) -> float:
    """FLOPs of a whole computation, counted directly: what an audit compares with."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())
