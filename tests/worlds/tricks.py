"""How a trick is made and played, and what it must end in.

Tricks on a problem are methods, run as the runner runs them; tricks on a trainable flow are fits.
Each trick says what the ledger must hold; None means that it must raise Unmeterable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import (
    FineTuning,
    FitProblem,
    Fitted,
    Method,
    NoParams,
    Problem,
    Samples,
    Work,
    backward,
    forward,
)
from bench.core.cells import Cell
from bench.core.metering import Meter, OverBudget
from bench.core.refusals import Unmeterable
from bench.core.trainable import MeteredModule, metered_clone
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem

B = 6
REFUSED = None


def cell_of(task: str) -> Cell:
    """A cell of B samples; its method is replaced by an adversary."""
    reward = "linear" if task == "gmm-paper" else "class-mixture"
    content = {
        "name": "t",
        "tasks": [task],
        "rewards": [reward],
        "methods": ["prior"],
        "n": B,
        "seeds": 1,
    }
    (row,) = expand(build_suite(content))
    return row.cell


def both(role: str, times: int = 1) -> Work:
    """B forward and B backward rows, `times` times."""
    return times * (forward(role, B) + backward(role, B))  # type: ignore[arg-type]


def half(x: Tensor) -> Tensor:
    return torch.full((len(x),), 0.5)


def kind(error: Exception) -> str:
    """Unmeterable or OverBudget, said in one sentence."""
    assert "\n" not in str(error)
    return "Unmeterable" if isinstance(error, Unmeterable) else "OverBudget"


# -- tricks on a problem --------------------------------------------------------------------------


class Adversary(Method[NoParams]):
    """A method that plays one trick and returns its initial noise."""

    expected: Work | None = REFUSED
    tasks = ("gmm-paper",)

    def sample(self, problem: Problem, n: int) -> Samples:
        x = problem.x0()
        self.trick(problem, x, half(x))
        return Samples(x)

    def trick(self, problem: Problem, x: Tensor, t: Tensor) -> None:
        raise NotImplementedError


ADVERSARIES: list[type[Adversary]] = []


def trick(expected: Work | None, *tasks: str) -> Callable[[Callable[..., Any]], None]:
    """Make an adversary of a function (problem, x, t)."""

    def register(played: Callable[..., Any]) -> None:
        members = {
            "trick": staticmethod(played),
            "expected": expected,
            "tasks": tasks or ("gmm-paper",),
        }
        ADVERSARIES.append(type(played.__name__, (Adversary,), members))

    return register


def played(adversary: type[Adversary], task: str, limit: float | None = None) -> tuple[str, Work]:
    """How the trick ended ("done", or the name of the exception), and the ledger."""
    cell, meter = cell_of(task), Meter(limit)
    problem = make_problem(cell, instances_of(cell), meter, range(cell.n))
    try:
        sample_in_batches(adversary.create(), problem, cell)
    except (Unmeterable, OverBudget) as error:
        return kind(error), meter.work()
    return "done", meter.work()


def assert_counted_or_refused(end: str, work: Work, expected: Work | None) -> None:
    """The trick ended with its rows on the ledger, or was stopped before it had any."""
    if expected is REFUSED:
        assert end == "Unmeterable", end
        assert work.cost("paper-nfe") <= B  # a forward that was made before the trick
    else:
        assert end == "done", end
        assert work.same_rows(expected), work


# -- tricks on a trainable flow -------------------------------------------------------------------


class Cheat(FineTuning[NoParams]):
    """A fit that plays one trick on the trainable flow."""

    expected: Work | None = REFUSED

    def fit(self, problem: FitProblem) -> Fitted:
        flow = problem.trainable_flow()
        assert isinstance(flow, MeteredModule)
        x = problem.problem.x0()
        self.trick(flow, x, half(x))
        return Fitted(flow.state_dict(), {})

    def trick(self, flow: MeteredModule, x: Tensor, t: Tensor) -> None:
        raise NotImplementedError


CHEATS: list[type[Cheat]] = []


def cheat(expected: Work | None) -> Callable[[Callable[..., Any]], None]:
    """Make a cheating fit of a function (flow, x, t)."""

    def register(played: Callable[..., Any]) -> None:
        members = {"trick": staticmethod(played), "expected": expected}
        CHEATS.append(type(played.__name__, (Cheat,), members))

    return register


def fitted(cls: type[Cheat], limit: float | None = None) -> tuple[str, Work]:
    """How the fit ended, and its ledger."""
    cell, meter = cell_of("digits"), Meter(limit)
    instances = instances_of(cell)
    flow = instances.task.flow
    assert isinstance(flow, nn.Module)
    problem = FitProblem(
        make_problem(cell, instances, meter, range(cell.n)),
        conditions=[None],
        data=lambda rows: torch.zeros(rows, *instances.task.event_shape),
        trainable_flow=lambda: metered_clone(flow, meter),
    )
    try:
        method = cls.create()
        assert isinstance(method, Cheat)
        method.fit(problem)
    except (Unmeterable, OverBudget) as error:
        return kind(error), meter.work()
    return "done", meter.work()
