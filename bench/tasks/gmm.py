"""Gaussian mixtures: worlds in which every answer is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from bench.api import Condition, MetaFlowMap, NoiseSource, NoParams, Reference, Reward, Task, param
from bench.models import weights
from bench.models.digits import UnconditionalMap
from bench.models.meta_flow_map import MetaFlowMapNet
from bench.models.mixture import Mixture, paper_mixture, random_mixture
from bench.models.mixture_roles import MixtureFlow, MixtureOracle, MixturePosterior
from bench.models.residual import ResidualFlow
from bench.models.solved_map import IntegratedMap

P = TypeVar("P")
METRICS = ("reward", "reward-excess", "sliced-w2", "mmd2", "diversity")


class MixtureTask(Task[P], Generic[P]):
    """Shared by the mixture tasks: flow, exact posterior and oracle of `self.mixture`."""

    metrics = METRICS
    noun = "point"

    def setup(self, mixture: Mixture) -> None:
        """Take the mixture's flow and posterior, in float32."""
        self.mixture = mixture.to(torch.zeros(0, dtype=torch.float32))
        self.flow = MixtureFlow(self.mixture)
        self.posterior = MixturePosterior(self.mixture)
        self.event_shape = self.flow.event_shape
        self.data_variance = float(mixture.covariance().diagonal().mean())

    def trainable_flow(self) -> ResidualFlow:
        """The exact velocity plus a residual that starts at zero."""
        return ResidualFlow(self.flow, self.mixture.mean(), self.mixture.covariance())

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact draws of the mixture, (n, d)."""
        return self.mixture.sample(n, generator)

    def oracle(self, reward: Reward[Any], strength: float) -> MixtureOracle | None:
        quadratic = reward.quadratic(self)
        if quadratic is None:
            return None
        like = self.mixture.means
        return MixtureOracle(self.mixture, quadratic.to(like).scaled(strength))

    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        oracle = self.oracle(reward, strength)
        if oracle is None:
            return None
        source = NoiseSource(seed, "reference")
        rows = range(n)
        z = source.normal("z", 0, self.event_shape, rows)
        return Reference(oracle.draw(z, source.normal("component", 0, (), rows)), exact=True)


class PaperMixture(MixtureTask[NoParams]):
    """The three-component 2-D mixture of the Meta Flow Maps paper, with a trained map beside it."""

    summary = "a two-dimensional mixture of three Gaussians in which every answer is known"
    world = "bench.worlds.gmm_paper:WORLD"

    def __init__(self, params: NoParams) -> None:
        super().__init__(params)
        self.setup(paper_mixture())

    @cached_property
    def flow_map(self) -> MetaFlowMap:  # type: ignore[override]
        """A meta flow map distilled from the exact velocity."""
        net = weights.load_into(MetaFlowMapNet((2,), width=128), "gmm-paper", "map")
        assert isinstance(net, MetaFlowMapNet)
        return UnconditionalMap(net)

    def weights(self) -> dict[str, str]:
        return weights.hashes("gmm-paper")

    def training(self) -> dict[str, float]:
        return weights.training("gmm-paper")


@dataclass(frozen=True)
class RandomMixtureParams:
    """Which mixture."""

    dimension: int = param(16, low=1, high=4096, tunable=False, help="dimension of the data")
    components: int = param(3, low=1, high=1000, tunable=False, help="number of components")
    seed: int = param(0, low=0, tunable=False, help="seed of means and covariances")
    map_steps: int = param(
        24, low=1, high=1000, tunable=False, help="Heun steps by which a jump of the map is solved"
    )


class RandomMixture(MixtureTask[RandomMixtureParams]):
    """A random anisotropic mixture in any dimension: how cost grows, against the exact answer.

    Its flow map is solved, not learned: methods that need a map run in any dimension and show
    their own error only.
    """

    summary = "a Gaussian mixture in which every answer is known"
    Params = RandomMixtureParams

    def __init__(self, params: RandomMixtureParams) -> None:
        super().__init__(params)
        self.setup(random_mixture(params.dimension, params.components, params.seed))
        self.flow_map = IntegratedMap(self.flow, params.map_steps)
