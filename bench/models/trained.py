"""A folder that `bench train --data` wrote: networks, recipe, quality, and data to measure against.

trained.safetensors    flow.* (where one was trained) and map.*
trained.json           how the networks are made, the recipe, what it cost, how good they are
data.safetensors       the rows, or as many as fit into 64 MB
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from bench.core.params import UserError
from bench.models import tensor_files
from bench.models.data_set import DataSet
from bench.models.external import load_strictly
from bench.models.meta_flow_map import BaseVelocity, FlowNet, MetaFlowMapNet

NAME = "trained"
WEIGHTS, RECORD, DATA = f"{NAME}.safetensors", f"{NAME}.json", "data.safetensors"


@dataclass(frozen=True)
class TrainedFolder:
    """What a folder says of itself, read when it is asked for."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return tuple(self._of("data", "event_shape"))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; () where networks know none."""
        return tuple(self._of("data", "classes"))

    @property
    def pictures(self) -> bool:
        """Whether rows can be looked at."""
        return bool(self._of("data", "pictures"))

    @property
    def training(self) -> dict[str, float]:
        """Paper-nfe of training flow and map."""
        return dict(self.record.get("training", {}))

    def networks(self) -> tuple[FlowNet | BaseVelocity, MetaFlowMapNet]:
        """Flow and map, frozen; where the map has no flow beside it, the flow inside it."""
        with torch.random.fork_rng(devices=[]):  # first weights are random, and replaced
            return self._made(self._state())

    def _made(self, state: Mapping[str, Any]) -> tuple[FlowNet | BaseVelocity, MetaFlowMapNet]:
        recipe: Mapping[str, Any] = self.record["recipe"]
        shape, classes = self.event_shape, len(self.classes)
        depth, network = recipe["depth"], recipe["network"]
        sizes = recipe["map_width"], depth, recipe["parametrisation"], classes, network
        net = cast(MetaFlowMapNet, self._filled(MetaFlowMapNet(shape, *sizes), state, "map"))
        if not any(name.startswith("flow.") for name in state):
            return BaseVelocity(net), net
        flow = FlowNet(shape, recipe["flow_width"], depth, classes, network)
        return cast(FlowNet, self._filled(flow, state, "flow")), net

    def data(self) -> DataSet:
        """The rows that the networks learnt from, or a part of them."""
        return DataSet.load(self.folder / DATA)

    def _state(self) -> Mapping[str, Any]:
        path = self.folder / WEIGHTS
        try:
            found: Mapping[str, Any] = tensor_files.read(path)
        except (tensor_files.Unreadable, tensor_files.HoldsCode) as error:
            raise UserError(
                f"the weights {path} cannot be read ({error}): restore the file or train again"
            ) from error
        return found

    def _filled(self, net: Any, state: Mapping[str, Any], prefix: str) -> Any:
        own = {
            name.removeprefix(f"{prefix}."): value
            for name, value in state.items()
            if name.startswith(f"{prefix}.")
        }
        load_strictly(net, own, f"'{prefix}' in {self.folder / WEIGHTS}")
        return net.requires_grad_(False).eval()

    def _of(self, *keys: str) -> Any:
        found: Any = self.record
        for key in keys:
            if not isinstance(found, Mapping) or key not in found:
                raise UserError(
                    f"{self.folder / RECORD} has no '{key}': it is not of a training on own data; "
                    "give the folder of 'bench train --data ... --to DIR'"
                )
            found = found[key]
        return found


def read_trained(path: str) -> TrainedFolder:
    """The folder of a training; UserError where it is none."""
    folder = Path(path).expanduser()
    record = folder / RECORD
    if not path or not record.is_file():
        raise UserError(
            f"{path or 'no folder'} holds no {RECORD}: give path=DIR, the folder of "
            "'bench train --data ... --to DIR'"
        )
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{record} is no JSON ({error}): train again") from error
    if not isinstance(content, Mapping) or "recipe" not in content:
        raise UserError(f"{record} has no recipe: train again, or restore the file")
    return TrainedFolder(folder, content)
