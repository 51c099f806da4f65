"""Contract tests: good plugins pass, and every way of being broken is caught by its own check."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import (
    Condition,
    Linear,
    Method,
    Noise,
    NoParams,
    Problem,
    ProblemSpec,
    Quadratic,
    Reference,
    Reward,
    Samples,
    Task,
    Work,
    backward,
    forward,
    param,
)
from bench.core import plugins
from bench.core.conformance import Finding
from bench.core.params import parse_name
from bench.core.posterior import draws_of
from bench.models.exact import MixtureFlow, MixtureOracle, MixturePosterior
from bench.models.mixture import Mixture
from bench.runner.binding import Bound, bind, make_task
from bench.runner.conformance import check_method, check_reward, check_task

# -- broken methods -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EulerParams:
    steps: int = param(6, low=2, high=100)


class Euler(Method[EulerParams]):
    """A good method: the base model, scored once."""

    Params: Any = EulerParams
    effort = ("steps",)

    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", self.params.steps) + forward("reward")

    def start(self, problem: Problem) -> Tensor:
        return problem.x0()

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        x = self.start(problem)
        for k in range(self.params.steps):
            t = torch.full((len(x),), k / self.params.steps)
            x = x + problem.flow.velocity(x, t) / self.params.steps
        return Samples(x, info={"reward": float(problem.reward(x).mean())})


class PredictsTooLittle(Euler):
    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", self.params.steps)


class PredictsTooMuch(Euler):
    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", self.params.steps + 1) + forward("reward")


class GlobalNoise(Euler):
    def start(self, problem: Problem) -> Tensor:
        return torch.randn_like(problem.x0())


class FreshNoise(Euler):
    def start(self, problem: Problem) -> Tensor:
        return torch.randn(problem.x0().shape, generator=torch.Generator().manual_seed(os.getpid()))


class UnseededNoise(Euler):
    def start(self, problem: Problem) -> Tensor:
        drawn = np.random.default_rng().standard_normal(problem.x0().shape, dtype=np.float32)
        return torch.from_numpy(drawn)


class SwallowsTheBudget(Euler):
    def sample(self, problem: Problem, n: int) -> Samples:
        try:
            return super().sample(problem, n)
        except Exception:
            return Samples(problem.x0())


class CouplesTheBatch(Euler):
    def start(self, problem: Problem) -> Tensor:
        x0 = problem.x0()
        return x0 - x0.mean(0)


class HiddenGradient(Euler):
    def work(self, spec: ProblemSpec) -> Work:
        return super().work(spec) + forward("reward") + backward("reward")

    def start(self, problem: Problem) -> Tensor:
        with torch.enable_grad():
            x0 = problem.x0().requires_grad_()
            slope = torch.autograd.grad(problem.reward(x0).sum(), x0)[0]
        return x0.detach() + 0.01 * slope


class Reseeds(Euler):
    def start(self, problem: Problem) -> Tensor:
        torch.manual_seed(0)
        return problem.x0()


class NotFinite(Euler):
    def start(self, problem: Problem) -> Tensor:
        return problem.x0() / 0


class Unranged(Euler):
    @dataclass(frozen=True)
    class Params(EulerParams):
        steps: int = 6


class IdleEffort(Euler):
    @dataclass(frozen=True)
    class Params(EulerParams):
        idle: int = param(1, low=1, high=9)

    effort = ("steps", "idle")


BROKEN_METHODS: dict[type[Euler], set[str]] = {
    Euler: set(),
    PredictsTooLittle: {"predicted work", "budget", "needs"},
    PredictsTooMuch: {"predicted work", "needs"},
    GlobalNoise: {"same seed", "batch size", "process state"},
    FreshNoise: {"other seed", "batch size"},
    UnseededNoise: {"same seed", "batch size"},
    SwallowsTheBudget: {"budget"},
    CouplesTheBatch: {"batch size"},
    HiddenGradient: {"needs"},
    Reseeds: {"process state"},
    NotFinite: {"samples"},
    Unranged: {"parameters", "effort"},
    IdleEffort: {"effort"},
}


def failed(findings: list[Finding]) -> set[str]:
    """The names of the failed checks; every failure gives one sentence."""
    broken = [finding for finding in findings if finding.status == "fail"]
    assert all(f.reason and "\n" not in f.reason for f in broken), broken
    return {finding.check for finding in broken}


@pytest.mark.parametrize("cls", BROKEN_METHODS, ids=lambda cls: cls.__name__)
def test_broken_methods_are_caught(cls: type[Euler]) -> None:
    bound = bind("gmm:dimension=2", "quadratic")
    findings = check_method("broken", cls.create(), bound)
    assert failed(findings) == BROKEN_METHODS[cls], findings


def test_a_method_that_meddles_with_the_flow_is_caught() -> None:
    bound = bind("gmm:dimension=2", "quadratic")

    class Meddles(Euler):
        def start(self, problem: Problem) -> Tensor:
            bound.task.mixture.means.mul_(1.5)  # type: ignore[attr-defined]
            return problem.x0()

    assert "inputs" in failed(check_method("broken", Meddles.create(), bound))


# -- broken rewards -------------------------------------------------------------------------------


class Bowl(Reward[NoParams]):
    """A good reward."""

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -x.flatten(1).square().sum(1) / 2


class WrongGradient(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -(x * x.detach()).flatten(1).sum(1) / 2


class NoGradient(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x.detach(), condition)


class InfiniteSlope(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -x.flatten(1).square().sum(1).sqrt()


class Overflows(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return x.flatten(1).exp().sum(1)


class Doubles(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x, condition).double()


class Standardises(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x - x.mean(0), condition)


class Shaky(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return super().__call__(x, condition) + torch.rand(len(x))


class FlatOnly(Bowl):
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        return -x.square().sum(1) / 2


class WrongForm(Bowl):
    def quadratic(self, task: Task[Any]) -> Quadratic | None:
        return Quadratic(torch.zeros(2), 2 * torch.eye(2))


class LooseParams(Bowl):
    @dataclass
    class Params:
        scale: float = 1.0


class IntegerJudge(Bowl):
    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        return torch.zeros(len(x), dtype=torch.int64)


BROKEN_REWARDS: dict[type[Bowl], set[str]] = {
    Bowl: set(),
    WrongGradient: {"gradient"},
    NoGradient: {"gradient"},
    InfiniteSlope: {"gradient"},
    Overflows: {"score"},
    Doubles: {"score"},
    Standardises: {"batch size", "gradient"},
    Shaky: {"repeatable", "batch size", "gradient"},
    FlatOnly: {"foreign shape"},
    WrongForm: {"quadratic"},
    LooseParams: {"parameters"},
    IntegerJudge: {"judge"},
}


@pytest.mark.parametrize("cls", BROKEN_REWARDS, ids=lambda cls: cls.__name__)
def test_broken_rewards_are_caught(cls: type[Bowl]) -> None:
    _, task = make_task("gmm:dimension=2")
    findings = check_reward(cls.create(), task, "gmm")
    assert failed(findings) == BROKEN_REWARDS[cls], findings


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
    DoubleFlow: {"velocity"},
    Explodes: {"base samples"},
    TensorConditions: {"conditions"},
    FlatData: {"data"},
    ShortJump: {"flow map"},
    ShiftedPosterior: {"posterior mean"},
    UnseededPosterior: {"posterior"},
    WrongOracle: {"oracle"},
    UnseededFlow: {"reproducible"},
    NormalisingFlow: {"batch size"},
    FrozenFlow: {"gradient"},
    UnknownMetric: {"metrics"},
    HeavyReference: {"reference"},
    FloatImages: {"render"},
    ClaimsPathwise: {"pathwise"},
}


@pytest.mark.parametrize("cls", BROKEN_TASKS, ids=lambda cls: cls.__name__)
def test_broken_tasks_are_caught(cls: type[Plane]) -> None:
    findings = check_task(cls, NoParams(), "plane")
    assert failed(findings) == BROKEN_TASKS[cls], findings


@pytest.mark.parametrize("method", ["prior", "dps", "rollout:draws=2,inner_steps=2,estimator=G"])
def test_built_in_methods_keep_their_contracts_on_a_module_that_requires_gradients(
    method: str,
) -> None:
    name, given = parse_name(method)
    bound = Bound(Plane.create(), Bowl.create(), 1.0, "plane", "bowl", ProblemSpec((2,)), None)
    findings = check_method(name, plugins.load("methods", name).create(**given), bound, given)
    assert len(findings) == 11
    assert failed(findings) == set(), findings
