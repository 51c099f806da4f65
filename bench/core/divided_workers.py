"""Workers that hold a part each of the weights: PyTorch's fully sharded data parallelism (FSDP).

A block of the network is gathered before it runs, forward and backward, and let go behind it; its
gradients are averaged while they are divided.  Moving averages and the optimiser's state are held
in the same parts.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

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
        self._mesh = init_device_mesh(device.partition(":")[0], (self.size,))

    def home(self, device: str) -> str:
        """The host, from which every block goes to its device when it is divided."""
        return "cpu"

    def divide(self, network: nn.Module) -> None:
        """Divide, in place, every metered flow in what is trained.

        Raises UserError for parameters that belong to none: nothing says how they are called.
        """
        flows = [part for part in network.modules() if isinstance(part, MeteredModule)]
        inside = {id(p) for flow in flows for p in flow.parameters()}
        if outside := [name for name, p in network.named_parameters() if id(p) not in inside]:
            raise UserError(
                f"fsdp divides trainable flows and nothing else, but '{outside[0]}' belongs to "
                "none: leave fsdp out of the resources"
            )
        for flow in flows:
            self._divide(flow.behind)

    def _divide(self, network: nn.Module) -> None:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for part in (*blocks_of(network), network):
            # Said, since the outermost would stay whole after a forward, whose parameters are then
            # others: what is counted, clipped and averaged between calls must be the parts.
            fully_shard(part, mesh=self._mesh, reshard_after_forward=True)
        register_fsdp_forward_method(network, "velocity")
        vars(network)["velocity"] = in_parts(cast(Any, network).velocity)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Those that are whole: gradients of divided weights are averaged when they come."""
        super().average([tensor for tensor in tensors if not is_divided(tensor)])


def in_parts(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`fn`, a call of a divided network, without autocast's cache of rounded weights.

    The cache would keep whole what is let go, and the gradient of a weight that several calls share
    would arrive when its block has handed its gradients on: one step late.  Raises UserError where
    a block does not run as a whole.
    """

    @functools.wraps(fn)
    def called(*args: Any) -> Tensor:
        before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            return fn(*args)
        except RuntimeError as error:
            if "mixed torch.Tensor and DTensor" not in str(error):
                raise
            raise UserError(
                "fsdp cannot divide this network, which runs a part of one of its blocks without "
                "the block: leave fsdp out of the resources"
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
