"""Real 8x8 digits: a trained flow and map, and real data to compare a tilted law with."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from bench.api import Condition, Flow, MetaFlowMap, NoParams, Reference, Reward, Task
from bench.models import digits, weights
from bench.models.digits_data import DIGIT_SHAPE, real_digits
from bench.models.meta_flow_map import FlowNet

DATA: dict[str, Literal["train", "held-out"]] = {"train": "train", "held-out": "held-out"}
"""Splits that are a part of the data; the report has all of them."""


class Digits(Task[NoParams]):
    """scikit-learn's 1,797 handwritten digits, with a flow and a meta flow map trained on 1,437."""

    summary = "a flow trained on scikit-learn's handwritten 8×8 digits"
    noun = "image"

    metrics = (
        "reward",
        "reward-excess",
        "judge",
        "class-error",
        "frechet",
        "mmd2-features",
        "mmd2-data",
        "diversity",
        "vendi",
        "modes",
        "tilt-size",
        "brightness",
        "high-frequency",
        "compressed-size",
    )
    world = "bench.worlds.digits:WORLD"
    event_shape = DIGIT_SHAPE

    @cached_property
    def flow(self) -> Flow:  # type: ignore[override]
        """The trained flow."""
        return digits.flow()

    def trainable_flow(self) -> FlowNet:
        """A copy of the trained flow."""
        return copy.deepcopy(digits.flow())

    @cached_property
    def flow_map(self) -> MetaFlowMap:  # type: ignore[override]
        """The trained meta flow map."""
        return digits.UnconditionalMap(digits.meta_flow_map())

    def weights(self) -> dict[str, str]:
        return weights.hashes("digits")

    def training(self) -> dict[str, float]:
        return weights.training("digits")

    @cached_property
    def data_variance(self) -> float:  # type: ignore[override]
        """Of the pictures that the flow was trained on."""
        return float(real_digits("train").x.var(0).mean())

    def has_data(self, split: str) -> bool:
        return True

    def data(self, split: str) -> Tensor:
        return real_digits(DATA.get(split, "all")).x

    @torch.no_grad()
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        x = real_digits("all").x
        weight = (strength * reward(x, condition).double()).softmax(0)
        return Reference(x, weight.float())

    def render(self, x: Tensor) -> Tensor:
        ink = ((1 - x.clamp(-1, 1)) * 127.5).round().to(torch.uint8)
        return ink[:, 0, :, :, None].expand(-1, -1, -1, 3).contiguous()
