"""The networks of the `digits` world, loaded from the shipped weights."""

from __future__ import annotations

from functools import cache
from typing import Literal, cast

from torch import Tensor

from bench.core.devices import following
from bench.core.protocols import Condition
from bench.models import weights
from bench.models.digits_data import DIGIT_SHAPE
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.nets import DigitClassifier

FEATURES = 12
"""Width of the feature network: a Frechet distance then needs 120 samples."""
CLASSIFIER_FEATURES = 32


@cache
def flow() -> FlowNet:
    """The base flow."""
    return cast(FlowNet, weights.load_into(FlowNet(DIGIT_SHAPE), "digits", "flow"))


@cache
def meta_flow_map() -> MetaFlowMapNet:
    """The meta flow map distilled from the flow."""
    net = MetaFlowMapNet(DIGIT_SHAPE)
    return cast(MetaFlowMapNet, weights.load_into(net, "digits", "map"))


@cache
def classifier(which: Literal["guidance", "judge", "features"]) -> DigitClassifier:
    """One of three classifiers trained on disjoint folds with different seeds."""
    net = DigitClassifier(FEATURES if which == "features" else CLASSIFIER_FEATURES)
    return cast(DigitClassifier, weights.load_into(net, "digits", which))


def log_probabilities(which: Literal["guidance", "judge"], x: Tensor) -> Tensor:
    """log p(y | x), (batch, 10)."""
    logits: Tensor = following(classifier(which), x)(x)
    return logits.log_softmax(-1)


class UnconditionalMap:
    """A meta flow map in the role of a task's flow map; conditions are ignored."""

    def __init__(self, net: MetaFlowMapNet) -> None:
        self.net = net

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x)."""
        return self.net.velocity(x_bar, s, u, x, t)

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The map of the base flow: the slice t = 0, where the context says nothing."""
        zero = s.new_zeros(s.shape)
        return self.net.jump(x, s, u, x.new_zeros(x.shape), zero)
