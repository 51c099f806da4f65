"""Frozen weights kept in the precision in which autocast multiplies them.

Under autocast a linear or convolutional layer rounds its weights anew in every call.  Frozen ones
can be kept rounded: the same bits come out, in half the memory and without that work.  Layers that
hold anything else, weights that another kind of layer shares (an embedding reads them unrounded),
parametrised ones and those that are trained stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from bench.core.place import Place, modules_in
from bench.core.tasks import Task

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that read their weights in a product alone; a class made from one may do otherwise."""


def part_at(task: Task[Any], name: str, place: Place) -> Any:
    """The flow or the map of a task, as it is called at a place.

    Where products are narrow it is a copy with rounded weights, and the task's own network, which
    others may share and train copies of, stays where it is.
    """
    return _rounded_copy(task, name, place) if place.narrow else getattr(task, name)


@lru_cache(maxsize=8)
def _copied(_task: Task[Any], _place: Place) -> dict[int, Any]:
    """What was copied of a task: a network that its flow and its map share is copied once."""
    return {}


@lru_cache(maxsize=8)
def _rounded_copy(task: Task[Any], name: str, place: Place) -> Any:
    own = getattr(task, name)
    other = copy.deepcopy(own, _copied(task, place))
    kept = {id(network) for network in modules_in(own)}
    if any(id(network) in kept for network in modules_in(other)):
        return own  # a closure holds it, which is not copied
    keep_rounded(other, place)
    return other


def keep_rounded(owner: object, place: Place) -> None:
    """Round, in place, the weights of the networks that an object holds, where nothing changes.

    They may then be called at this place only.
    """
    for network in modules_in(owner) if place.narrow else ():
        shared = {id(p) for layer in _others(network) for p in layer.parameters(recurse=False)}
        for layer in network.modules():
            if _rounds(layer) and not any(id(p) in shared for p in layer.parameters()):
                layer.to(place.precision)


def _others(network: nn.Module) -> Iterator[nn.Module]:
    return (layer for layer in network.modules() if not _rounds(layer))


def _rounds(layer: nn.Module) -> bool:
    """Whether autocast rounds all that a layer holds, whenever it is called."""
    if type(layer) not in LAYERS or is_parametrized(layer):
        return False
    own, held = dict(layer.named_parameters()), layer.state_dict()
    frozen = all(p.dtype == torch.float32 and not p.requires_grad for p in own.values())
    return frozen and own.keys() == held.keys() <= {"weight", "bias"}
