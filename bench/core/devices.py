"""Code that knows of no device, on any device.

An objective draws its random numbers on the CPU, from the step's generator, so that they are the
same everywhere; its data lie on the CPU too, as do those of metrics.  Inside `on_device` whatever
meets the network's tensors is moved to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from bench.core.params import UserError

N = TypeVar("N", bound=nn.Module)


def following(net: N, x: Tensor) -> N:
    """A network that a module keeps for everybody, on the device of its input."""
    first = next(net.parameters(), x)
    return net if first.device == x.device else net.to(x.device)


@contextmanager
def wide() -> Iterator[None]:
    """Without autocast: what is computed once and kept must not depend on who asks first."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


class Moving(TorchFunctionMode):
    """Operations take place on `device` as soon as one of their tensors lies there.

    Random tensors go there once drawn, and what becomes an array leaves it.  An operation in place
    stays where its first argument is.  Data that an objective indexes are moved as a whole at every
    step; a large set should lie on the device from the start.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        places = {tensor.device for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        if len(places) > 1:
            home = args[0].device if _in_place(func) else self.device
            args, kwargs = _moved((args, kwargs), home)
        if func in LEAVING:
            args = _moved(args, torch.device("cpu"))
        out = func(*args, **kwargs)
        return _moved(out, self.device) if kwargs.get("generator") is not None else out


LEAVING = (Tensor.numpy, Tensor.__array__)
"""What only the CPU can do."""


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, Tensor)


def _moved(tree: Any, device: torch.device) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), tree)


def _in_place(func: Callable[..., Any]) -> bool:
    """`x.add_(y)`, `x[i] = y`, `x += y`: moving x would lose what is written to it."""
    name = getattr(func, "__name__", "")
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name != "__invert__")
    return name.endswith("_")


def device_of(net: nn.Module) -> str:
    """Where a network lies; the CPU if it has no parameters."""
    return str(next((p.device for p in net.parameters()), "cpu"))


def on_device(device: str) -> AbstractContextManager[Any]:
    """The context in which losses are computed; on the CPU there is nothing to do."""
    return nullcontext() if device == "cpu" else Moving(torch.device(device))


def check_device(device: str, workers: int = 1) -> None:
    """Raises UserError unless `workers` such devices are here; cpu and cuda are known."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return
    if kind != "cuda":
        raise UserError(f"unknown device '{device}': cpu, cuda or cuda:<number>")
    found = torch.cuda.device_count()
    number = device.partition(":")[2] or "0"
    if not number.isdigit() or max(int(number) + 1, workers) > found:
        raise UserError(
            f"'{device}' for {workers} worker(s), but {found} CUDA devices are here: use "
            "--device cpu, or fewer workers"
        )
