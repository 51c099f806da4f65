"""Weights of which a process holds a part (torch's DTensor), put together and taken apart.

What leaves a training whose weights are divided, a checkpoint or the fitted weights, is whole.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
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


def divided_as(parameter: Tensor, value: Any) -> Any:
    """A whole value that belongs to a parameter, such as its momentum, divided as that is."""
    if not (is_divided(parameter) and isinstance(value, Tensor) and value.shape == parameter.shape):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    here = value.to(parameter.device)
    return distribute_tensor(here, parameter.device_mesh, parameter.placements, src_data_rank=None)
