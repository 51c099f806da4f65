"""Contract tests of tasks: every way of being broken is caught by its own check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.api import (
    Condition,
    Linear,
    Noise,
    NoParams,
    ProblemSpec,
    Reference,
    Reward,
    Task,
    Timing,
)
from bench.conformance.check import check_method, check_task
from bench.core import plugins
from bench.core.params import parse_name
from bench.core.posterior import draws_of
from bench.models.mixture import Mixture
from bench.models.mixture_roles import MixtureFlow, MixtureOracle, MixturePosterior
from bench.plan.binding import Bound
from tests.worlds.contract_findings import Bowl, failed

# -- broken tasks ---------------------------------------------------------------------------------


class TrainedFlow(nn.Module):
    """Somebody's network: its weights require gradients, as they do after training."""

    def __init__(self, seed: int | None = 0) -> None:
        super().__init__()
        self.event_shape, self.interpolant = (2,), Linear()
        self.layer = nn.Linear(3, 2)
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(seed)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(2, 3, generator=generator))
            self.layer.bias.zero_()

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        return self.layer(torch.cat([x, t[:, None]], 1)).tanh()


class Plane(Task[NoParams]):
    """A good task."""

    event_shape = (2,)
    make: Callable[[], TrainedFlow] = TrainedFlow

    def __init__(self, params: NoParams) -> None:
        super().__init__(params)
        with torch.random.fork_rng():
            self.flow = type(self).make()


class OwnTimes(Plane):
    """A good task with a schedule and an interval of guidance."""

    class Flow(TrainedFlow):
        def times(self, steps: int) -> list[float]:
            return [0.1 + 0.9 * (k / steps) ** 2 for k in range(steps + 1)]

        def rows(self, t: float) -> int:
            return 2 if t < 0.5 else 1

    make = Flow


class ForgottenTimes(OwnTimes):
    def timing(self) -> Timing:
        return Timing()


class OtherRows(OwnTimes):
    def timing(self) -> Timing:
        return replace(super().timing(), rows=lambda t: 2)


class FallingTimes(OwnTimes):
    class Flow(OwnTimes.Flow):
        def times(self, steps: int) -> list[float]:
            return super().times(steps)[::-1]

    make = Flow


class OrdinaryModule(Plane):
    """A good task whose network is made as torch makes it, and then loaded."""

    def __init__(self, params: NoParams) -> None:
        Task.__init__(self, params)
        self.flow = TrainedFlow()


class ReseededFlow(Plane):
    """Somebody else's random numbers begin anew."""

    def __init__(self, params: NoParams) -> None:
        Task.__init__(self, params)
        torch.manual_seed(0)
        self.flow = TrainedFlow()


class UnseededFlow(Plane):
    make = staticmethod(lambda: TrainedFlow(None))


class NormalisingFlow(Plane):
    class Flow(TrainedFlow):
        def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
            return super().velocity(x - x.mean(0), t)

    make = Flow


class FrozenFlow(Plane):
    class Flow(TrainedFlow):
        @torch.no_grad()
        def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
            return super().velocity(x, t)

    make = Flow


class UnknownMetric(Plane):
    metrics = ("reward", "beauty")


class HeavyReference(Plane):
    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        return Reference(torch.zeros(n, 2), torch.ones(n))


class Decoded(Plane):
    """A good task whose flow lives in latents: what it refers to is data."""

    data_shape = (3,)

    def decode(self, z: Tensor) -> Tensor:
        return torch.cat([z, z.sum(1, keepdim=True)], 1)

    def draw_data(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 2, generator=generator)

    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        return Reference(torch.zeros(n, *self.data_shape), torch.full((n,), 1 / n))


class LatentReference(Decoded):
    """Its reference is latents, which no reward and no metric sees."""

    def reference(
        self, reward: Reward[Any], strength: float, condition: Condition, n: int, seed: int
    ) -> Reference | None:
        return Reference(torch.zeros(n, 2), torch.full((n,), 1 / n))


class FloatImages(Plane):
    def render(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 4, 4, 3)


class DoubleFlow(Plane):
    class Flow(TrainedFlow):
        def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
            return super().velocity(x, t).double()

    make = Flow


class Explodes(Plane):
    class Flow(TrainedFlow):
        def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
            return 1e30 * x

    make = Flow


class TensorConditions(Plane):
    def conditions(self, split: str) -> list[Condition]:
        return [torch.zeros(3)]


class FlatData(Plane):
    def data(self, split: str) -> Tensor:
        return torch.zeros(10, 2, dtype=torch.float64)


class ClaimsData(Plane):
    def has_data(self, split: str) -> bool:
        return True


class ShortJump(Plane):
    class Map:
        def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
            return x[:, :1]

        def velocity(self, x_bar: Tensor, *rest: Any) -> Tensor:
            return x_bar

    flow_map: Any = Map()


class Exact(Plane):
    """A good task: two Gaussians, with the exact posterior and oracle."""

    sampler: type[MixturePosterior] = MixturePosterior

    def __init__(self, params: NoParams) -> None:
        self.params = params
        means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        self.mixture = Mixture(torch.ones(2), means, 0.1 * torch.eye(2).expand(2, 2, 2))
        self.flow = MixtureFlow(self.mixture)
        self.posterior = type(self).sampler(self.mixture)

    def oracle(self, reward: Reward[Any], strength: float) -> MixtureOracle | None:
        form = reward.quadratic(self)
        return None if form is None else MixtureOracle(self.mixture, form)


class ShiftedPosterior(Exact):
    class Sampler(MixturePosterior):
        def draw(
            self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
        ) -> Tensor:
            return super().draw(x, t, n, noise) + 0.2

    sampler = Sampler


class UnseededPosterior(Exact):
    class Sampler(MixturePosterior):
        def draw(
            self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
        ) -> Tensor:
            return super().draw(x, t, n, lambda name, shape: torch.randn(len(x), *shape))

    sampler = Sampler


class ClaimsPathwise(Exact):
    """Draws pass gradients around the choice of a component, which has none."""

    class Sampler(MixturePosterior):
        pathwise = True

        def draw(
            self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
        ) -> Tensor:
            z, u = draws_of(noise, "z", n, (2,)), draws_of(noise, "u", n, ()).erf() / 2 + 0.5
            return self.mixture.posterior_draws(x, t, u, z)

    sampler = Sampler


class WrongOracle(Exact):
    class Oracle(MixtureOracle):
        def value(self, x: Tensor, t: Tensor) -> Tensor:
            return super().value(x, t)[:, None]

    def oracle(self, reward: Reward[Any], strength: float) -> MixtureOracle | None:
        form = reward.quadratic(self)
        return None if form is None else self.Oracle(self.mixture, form)


BROKEN_TASKS: dict[type[Plane], set[str]] = {
    Plane: set(),
    Exact: set(),
    OwnTimes: set(),
    ForgottenTimes: {"timing"},
    OtherRows: {"timing"},
    FallingTimes: {"base samples", "timing"},
    DoubleFlow: {"velocity"},
    Explodes: {"base samples"},
    TensorConditions: {"conditions"},
    FlatData: {"data"},
    ClaimsData: {"data"},
    ShortJump: {"flow map"},
    ShiftedPosterior: {"posterior mean"},
    UnseededPosterior: {"posterior"},
    WrongOracle: {"oracle"},
    OrdinaryModule: set(),
    ReseededFlow: {"reproducible"},
    UnseededFlow: {"reproducible"},
    NormalisingFlow: {"batch size"},
    FrozenFlow: {"gradient"},
    UnknownMetric: {"metrics"},
    HeavyReference: {"reference"},
    Decoded: set(),
    LatentReference: {"reference"},
    FloatImages: {"render"},
    ClaimsPathwise: {"pathwise"},
}


@pytest.mark.parametrize("cls", BROKEN_TASKS, ids=lambda cls: cls.__name__)
def test_broken_tasks_are_caught(cls: type[Plane]) -> None:
    findings = check_task(cls, NoParams(), "plane")
    assert failed(findings) == BROKEN_TASKS[cls], findings


@pytest.mark.parametrize("name", ["gmm-paper", "gmm", "digits", "shapes"])
def test_tasks_that_come_with_their_weights_keep_their_contracts(name: str) -> None:
    cls = plugins.load("tasks", name)
    assert failed(check_task(cls, cls.create().params, name)) == set()


@pytest.mark.parametrize("method", ["prior", "dps", "rollout:draws=2,inner_steps=2,estimator=G"])
def test_built_in_methods_keep_their_contracts_on_a_module_that_requires_gradients(
    method: str,
) -> None:
    name, given = parse_name(method)
    bound = Bound(Plane.create(), Bowl.create(), 1.0, "plane", "bowl", ProblemSpec((2,)), None)
    findings = check_method(name, plugins.load("methods", name).create(**given), bound, given)
    assert len(findings) == 11
    assert failed(findings) == set(), findings
