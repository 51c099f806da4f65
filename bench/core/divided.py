"""Weights of which a process holds a part (torch's DTensor), put together and taken apart.

What leaves a training whose weights are divided, a checkpoint or the fitted weights, is whole.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


def is_divided(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor alone."""
    return hasattr(tensor, "full_tensor")


def whole(values: Any, kept: bool = True) -> Any:
    """A tree of values with every divided tensor put together, on the CPU, one by one.

    All workers ask at once; for one to whom it is nothing, `kept` says so, such a tensor is empty.
    """

    def together(tensor: Tensor) -> Tensor:
        if not is_divided(tensor):
            return tensor
        found: Tensor = cast(Any, tensor.detach()).full_tensor()
        return found.cpu() if kept else torch.empty(0)

    return tree_map_only(Tensor, together, values)


def clip_norm(parameters: Sequence[nn.Parameter], most: float) -> None:
    """Scale gradients, in place, so that all of them together, whole or divided, have at most this
    norm; all workers do it at once.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = [g for g in gradients if is_divided(g)]
    total = nn.utils.get_total_norm([g for g in gradients if not is_divided(g)])
    if parts:
        total = torch.hypot(total.cpu(), whole(nn.utils.get_total_norm(parts)))
    nn.utils.clip_grads_with_norm_(parameters, most, total)


def outline(network: nn.Module) -> nn.Module:
    """A copy whose parameters hold no memory: what `put_together` fills.  Buffers are copied."""
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
        for p in network.parameters()
    }
    return copy.deepcopy(network, empty)


def put_together(network: nn.Module, empty: nn.Module, kept: bool = True) -> nn.Module:
    """The network itself where its weights are whole; else its outline with them, on the CPU.

    All workers ask at once; one to whom it is nothing, `kept` says so, gets no more than it has.
    """
    if not any(map(is_divided, network.parameters())):
        return network
    state = whole(network.state_dict(), kept)
    if not kept:
        return network
    made = copy.deepcopy(empty)
    own = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
    made.load_state_dict(own, assign=True)
    return made


def divided_as(parameter: Tensor, value: Any) -> Any:
    """A whole value that belongs to a parameter, such as its momentum, divided as that is."""
    if not (is_divided(parameter) and isinstance(value, Tensor) and value.shape == parameter.shape):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    here = value.to(parameter.device)
    return distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None)
