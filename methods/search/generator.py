"""Search over the initial noise of a deterministic generator: what such methods share.

They hold on to one noise per output and return the best sample seen, so that more effort never
lowers the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.api import (
    Method,
    Need,
    Problem,
    ProblemSpec,
    Role,
    Step,
    Work,
    euler,
    forward,
    integrate,
    named_param,
)


@dataclass(frozen=True)
class Generator:
    """G: noise -> sample by `steps` steps, whose rows are those of `role`."""

    summary: str
    role: Role
    step: Callable[[Problem], Step]
    needs: frozenset[Need] = frozenset()

    def build(self, problem: Problem, steps: int) -> Callable[[Tensor], Tensor]:
        """G over metered callables."""
        step, grid = self.step(problem), problem.grid(steps)
        return lambda e: integrate(step, problem.started(e, grid), grid)

    def rows(self, spec: ProblemSpec, steps: int) -> float:
        """Its calls, as a prediction counts them."""
        return spec.calls(spec.grid(steps)[:-1]) if self.role == "flow" else float(steps)

    def work(self, spec: ProblemSpec, steps: int) -> Work:
        """Rows of one sample."""
        return forward(self.role, self.rows(spec, steps))


def _jump(problem: Problem) -> Step:
    assert problem.flow_map is not None
    return problem.flow_map.jump


GENERATORS: Mapping[str, Generator] = {
    "ode": Generator("Euler steps of the base ODE", "flow", lambda p: euler(p.flow.velocity)),
    "map": Generator("jumps of the flow map", "map", _jump, frozenset({Need.FLOW_MAP})),
}


def generator_param(default: str) -> Any:
    """A field of Params that names a generator."""
    return named_param(default, GENERATORS)


class OverNoise(Method[Any]):
    """A search for the initial noise of a generator; `steps` and `generator` say which."""

    @property
    def generator(self) -> Generator:
        """Noise to sample."""
        return GENERATORS[self.params.generator]

    @property
    def needs(self) -> frozenset[Need]:
        return self.generator.needs
