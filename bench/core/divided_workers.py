"""Workers that hold a part each of the weights: PyTorch's fully sharded data parallelism (FSDP).

A block of the network is gathered before it runs, forward and backward, and let go behind it; its
gradients are averaged while they are divided.  Moving averages and the optimiser's state are held
in the same parts.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.divided import is_divided
from bench.core.params import UserError
from bench.core.trainable import MeteredModule
from bench.core.workers import Processes


class DividedProcesses(Processes):
    """The default process group, whose workers hold their parts of every trained flow.

    device: where this worker's parts lie.
    """

    def __init__(self, device: str) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        super().__init__()
        # FSDP warns that a view which it returns must not be written to; ours are counted, by a
        # function whose output torch does not let anybody write to.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
        self._device = device
        self._mesh = init_device_mesh(device.partition(":")[0], (self.size,))

    def home(self, device: str) -> str:
        """The host, from which every block goes to its device when it is divided."""
        return "cpu"

    def divide(self, network: nn.Module) -> None:
        """Divide, in place, every part of what is trained that says how it is called.

        Raises UserError for parameters that belong to none.
        """
        parts = list(entered(network))
        inside = {id(p) for part, _ in parts for p in part.parameters()}
        if outside := [name for name, p in network.named_parameters() if id(p) not in inside]:
            raise UserError(
                f"fsdp divides trainable flows and what says by `entrances` how it is called, but "
                f"'{outside[0]}' belongs to neither: leave fsdp out"
            )
        for part, entrances in parts:
            self._divide(part, entrances)

    def _divide(self, network: nn.Module, entrances: Sequence[str]) -> None:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        single = {p for p in network.parameters() if not p.dim()}  # a number cannot be divided
        for number in single:
            number.data = number.data.to(self._device)
        for part in (*blocks_of(network), network):
            # Said, since the outermost would stay whole after a forward, whose parameters are then
            # others: what is counted, clipped and averaged between calls must be the parts.
            fully_shard(part, mesh=self._mesh, reshard_after_forward=True, ignored_params=single)
        for name in entrances:
            if name != "forward":  # which torch knows
                register_fsdp_forward_method(network, name)
            vars(network)[name] = in_parts(getattr(network, name))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Those that are whole: gradients of divided weights are averaged when they come."""
        super().average([tensor for tensor in tensors if not is_divided(tensor)])


def entered(network: nn.Module) -> Iterator[tuple[nn.Module, Sequence[str]]]:
    """The outermost networks whose callers come in by methods that are known, with these.

    A metered flow's is its velocity; others name theirs in `entrances`.
    """
    if isinstance(network, MeteredModule):
        yield network.behind, ("velocity",)
    elif entrances := getattr(network, "entrances", ()):
        yield network, entrances
    else:
        for child in network.children():
            yield from entered(child)


def in_parts(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`fn`, a call of a divided network, without autocast's cache of rounded weights.

    The cache would keep whole what is let go, and the gradient of a weight that several calls share
    would arrive when its block has handed its gradients on: one step late.  Raises UserError where
    a block does not run as a whole.
    """

    @functools.wraps(fn)
    def called(*args: Any, **kwargs: Any) -> Tensor:
        before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            return fn(*args, **kwargs)
        except RuntimeError as error:
            if "mixed torch.Tensor and DTensor" not in str(error):
                raise
            raise UserError(
                "fsdp cannot divide this network, which runs a part of one of its blocks without "
                "the block: leave fsdp out"
            ) from error
        finally:
            torch.set_autocast_cache_enabled(before)

    return called


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists of modules: what runs, and is gathered, one by one."""
    listed = isinstance(network, nn.ModuleList)
    for child in network.children():
        if isinstance(child, nn.ModuleList) or not listed:
            yield from blocks_of(child)
        elif any(True for _ in child.parameters()):
            yield child
