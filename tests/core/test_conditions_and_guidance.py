"""What the callables of a problem hear, and that a guided call counts for the two that it is."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from bench.api import (
    Condition,
    Noise,
    NoParams,
    Problem,
    Samples,
    Target,
    Work,
    backward,
    forward,
)
from bench.core.flops import counted
from bench.core.metered import MeteredPosterior
from bench.core.metering import Meter, OverBudget
from bench.core.posterior import Remembered
from bench.core.units import Role
from bench.core.values import ProblemSpec
from bench.metrics.reward import MeanReward
from bench.plan.prediction import sample_work
from bench.runner.instances import Instances
from bench.runner.problems import make_fit_problem, make_problem
from methods.reference import Prior
from tests.worlds.guided import Guided, GuidedFlow, Plain, Sum, guided_cell

B, OWN, OTHER = 5, 1, 2


def instances(task: type[Guided] = Guided) -> Instances:
    target = Target(Sum(NoParams()), 1.0, OWN)
    return Instances(task(NoParams()), target, Prior.create())


def problem_of(made: Instances, limit: float | None = None) -> Problem:
    return make_problem(guided_cell(OWN, B), made, Meter(limit, count_flops=True), range(B))


def points() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(B, 2, generator=g), torch.full((B,), 0.25), torch.full((B,), 0.75)


# -- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, OTHER])
def test_a_condition_given_at_the_call_is_heard_and_otherwise_the_problems(given) -> None:
    made = instances()
    problem, (x, t, u) = problem_of(made), points()
    heard, flow, flow_map = given or OWN, made.task.flow, made.task.flow_map
    assert problem.flow_map is not None and flow_map is not None
    expected = flow.velocity(x, t, heard)
    assert not torch.equal(expected, flow.velocity(x, t, OWN if given else OTHER))
    assert torch.equal(problem.flow.velocity(x, t, given), expected)
    assert torch.equal(problem.flow.jvp(x, t, x, given)[0], expected)
    found = problem.flow_map.velocity(x, t, u, x, t, given)
    assert torch.equal(found, flow_map.velocity(x, t, u, x, t, heard))
    assert torch.equal(problem.flow_map.jump(x, t, u, given), flow_map.jump(x, t, u, heard))


class Told:
    """A posterior whose draws say the condition."""

    pathwise, rows_per_draw = False, 1

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        return torch.full((n, *x.shape), float(condition))


@pytest.mark.parametrize("given", [None, OTHER])
def test_a_posterior_hears_it_too(given) -> None:
    (x, t, _), problem = points(), problem_of(instances())
    draw = MeteredPosterior(Told(), Meter(), OWN).draw(x, t, 3, problem.noise_at(0), given)
    assert bool((draw == (given or OWN)).all())


def test_what_is_remembered_is_remembered_for_its_condition() -> None:
    problem, (x, t, _) = problem_of(instances()), points()
    flow = Remembered(problem.flow)
    one, other = flow.velocity(x, t, OWN), flow.velocity(x, t, OTHER)
    assert not torch.equal(one, other)
    assert flow.velocity(x, t, OTHER) is other


def test_a_condition_with_a_row_each_is_priced() -> None:
    meter = Meter(count_flops=True)
    x, t, _ = points()
    flow = meter.wrap("flow", lambda x, t, label: x @ torch.eye(2) + label[:, None], key=("rows",))
    flow(x, t, torch.arange(B))
    assert meter.work().flops == B * 2 * 2 * 2


# -- guidance -------------------------------------------------------------------------------------


def both(role: Role, runs: int) -> Work:
    return forward(role, runs * B) + backward(role, runs * B)


@pytest.mark.parametrize(("task", "runs"), [(Guided, 2), (Plain, 1)])
def test_a_guided_call_counts_twice_forward_backward_and_as_a_jvp(task, runs) -> None:
    problem, (x, t, u) = problem_of(instances(task)), points()
    assert problem.flow_map is not None
    problem.flow.velocity(x.requires_grad_(), t).sum().backward()
    problem.flow_map.jump(x, t, u).sum().backward()
    problem.reward(x).sum().backward()
    expected = both("flow", runs) + both("map", runs) + both("reward", 1)
    assert problem.meter.work().same_rows(expected)
    problem.flow.jvp(x.detach(), t, x.detach())
    assert problem.meter.work().cost("paper-nfe") == expected.cost("paper-nfe") + 2 * runs * B


def test_the_rows_are_those_on_which_the_network_ran() -> None:
    made = instances()
    problem, (x, t, _) = problem_of(made), points()
    flow = made.task.flow
    assert isinstance(flow, GuidedFlow)
    with torch.no_grad():
        problem.flow.velocity(x, t)  # counts the price
        before, rows = problem.meter.work(), flow.network.rows
        problem.flow.velocity(x, t)
        seen = problem.meter.work()
        assert seen.flow.forward - before.flow.forward == flow.network.rows - rows
        # The counter sees both runs by itself: prices are not doubled.
        assert seen.flops - before.flops == counted(lambda: flow.velocity(x, t, OWN))


def test_a_guided_flow_to_train_counts_twice() -> None:
    meter, (x, t, _) = Meter(4 * B), points()
    problem = make_fit_problem(guided_cell(OWN, B), instances(), meter)
    model = problem.trainable_flow()
    model.velocity(x, t).sum().backward()
    assert meter.work().same_rows(both("flow", 2))
    with pytest.raises(OverBudget):
        model.velocity(x[:1], t[:1])


def test_a_guided_method_spends_what_its_prediction_says() -> None:
    made = instances()
    predicted = sample_work(made.method, ProblemSpec((2,), guided=True)) * float(B)
    problem = problem_of(made, limit=predicted.cost("paper-nfe"))
    made.method.sample(problem, B)
    assert problem.meter.work().same_rows(predicted)


# -- what rewards read -----------------------------------------------------------------------------


class Reads(Sum):
    """A reward that keeps what it was told."""

    heard: ClassVar[list[object]] = []

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        self.heard.append(condition)
        return super().__call__(x, condition)


class Wording(Guided):
    """A task of labels that says in words what they mean."""

    def sentence(self, condition: Condition) -> Condition:
        return f"number {condition}"


def test_rewards_and_metrics_read_what_the_task_makes_of_a_condition() -> None:
    told = {"label": OWN, "text": "one"}
    for task, condition, expected in (
        (Wording(NoParams()), OWN, f"number {OWN}"),
        (Guided(NoParams()), told, "one"),
        (Guided(NoParams()), OWN, OWN),
    ):
        reward = Reads(NoParams())
        target = Target(reward, 1.0, condition, read=task.sentence(condition))
        made = Instances(task, target, Prior.create())
        x, _, _ = points()
        make_problem(guided_cell(OWN, B), made, Meter(), range(B)).reward(x)
        MeanReward(target)(Samples(x), task)
        assert reward.heard and set(map(str, reward.heard)) == {str(expected)}
        reward.heard.clear()
    assert Target(Sum(NoParams()), 1.0, told).sentence == "one"
