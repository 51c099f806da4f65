"""A flow and a meta flow map that somebody trained on data of their own, as a task."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from bench.api import Condition, Flow, MetaFlowMap, Reference, Reward, Task, UserError, param
from bench.models import trained
from bench.models.conditional import ConditionalFlow, ConditionalMap
from bench.models.data_set import DataSet
from bench.models.external import file_digest
from bench.models.latents import levels
from bench.models.nets import GUIDED_SCALE


@dataclass(frozen=True)
class TrainedParams:
    """Which folder, and how strongly flow and map follow a label."""

    path: str = param("", tunable=False, help="folder that 'bench train --data ... --to' wrote")
    guidance: Literal["none", "model"] = param(
        "none",
        tunable=False,
        help="none: the honest class-conditional law; model: the velocity of scale 2.5, learnt",
    )


class Trained(Task[TrainedParams]):
    """A flow with its meta flow map, trained on own data by `bench train --data`.

    A condition is {"label": 3, "text": "name of the class"} where the data had labels.  The tilted
    law is that of the real rows under weights e^r, those of the class asked for.
    """

    summary = "a flow and a meta flow map trained on data of your own"
    Params = TrainedParams
    metrics = ("reward", "reward-excess", "judge", "mmd2-tilted", "diversity", "tilt-size")

    @cached_property
    def _folder(self) -> trained.TrainedFolder:
        return trained.read_trained(self.params.path)

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of a row of the data."""
        return self._folder.event_shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; () without labels."""
        return self._folder.classes

    @cached_property
    def _networks(self) -> tuple[Any, Any]:
        return self._folder.networks()

    @property
    def _scale(self) -> float:
        """What the networks are told; UserError for a guidance that they never learnt."""
        if self.params.guidance == "none":
            return 1.0
        if not (self.classes and self._folder.record["recipe"].get("guided_share")):
            raise UserError(
                f"the networks in {self.params.path} learnt no guidance: take guidance=none, or "
                "train with --labels and --set guided_share=0.25"
            )
        return GUIDED_SCALE

    @cached_property
    def flow(self) -> Flow:  # type: ignore[override]
        """The trained flow; that inside the map where another model was the teacher."""
        return ConditionalFlow(self._networks[0], self._label_of, self._scale)

    def trainable_flow(self) -> ConditionalFlow:
        """A copy of the trained flow."""
        return ConditionalFlow(copy.deepcopy(self._networks[0]), self._label_of, self._scale)

    @cached_property
    def flow_map(self) -> MetaFlowMap:  # type: ignore[override]
        """The trained meta flow map."""
        return ConditionalMap(self._networks[1], self._label_of, self._scale)

    def weights(self) -> dict[str, str]:
        folder = self._folder.folder
        return {
            "networks": file_digest(folder / trained.WEIGHTS),
            "data": file_digest(folder / trained.DATA),
        }

    def training(self) -> dict[str, float]:
        return self._folder.training

    def _label_of(self, condition: Condition) -> int | None:
        """The class of a condition; UserError for one that the networks never heard of."""
        found = condition.get("label") if isinstance(condition, dict) else condition
        if isinstance(found, str) and found in self.classes:
            return self.classes.index(found)
        if found is None or (isinstance(found, int) and 0 <= found < len(self.classes)):
            return found
        known = ", ".join(self.classes[:9]) or "none: the networks were trained without labels"
        raise UserError(f"{condition!r} is none of the classes of {self.params.path} ({known})")

    def conditions(self, split: str) -> list[Condition]:
        """A class each, or one condition without a class."""
        named = enumerate(self.classes)
        return [{"label": k, "text": name} for k, name in named] or [None]

    @cached_property
    def _data(self) -> tuple[DataSet, DataSet, DataSet]:
        whole = self._folder.data()
        return whole, *whole.split()

    def has_data(self, split: str) -> bool:
        return True

    def data(self, split: str) -> Tensor:
        """The rows that are kept; "train" and "held-out" are parts of them."""
        whole, learned, held_out = self._data
        return {"train": learned, "held-out": held_out}.get(split, whole).x

    @torch.no_grad()
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        whole, label = self._data[0], self._label_of(condition)
        x = whole.x if label is None or whole.label is None else whole.x[whole.label == label]
        weight = (strength * reward(x, self.sentence(condition)).double()).softmax(0)
        return Reference(x, weight.float())

    def render(self, x: Tensor) -> Tensor | None:
        """Pictures of one or three channels as uint8; None for other data."""
        if not self._folder.pictures:
            return None
        shown = levels(x)
        return shown if shown.shape[-1] == 3 else shown[..., :1].expand(-1, -1, -1, 3).contiguous()
