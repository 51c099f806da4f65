"""Which posterior sampler a steering method uses, by name, with what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.core.contracts import Need, PosteriorSampler
from bench.core.posterior import Gaussian, Glass, Remembered, SDERollout, Tweedie
from bench.core.problem import Problem
from bench.core.work import Role, Work, backward, forward
from bench.models.map_posterior import MapPosterior

Kind = Literal["tweedie", "gaussian", "glass", "sde", "map", "exact"]


@dataclass(frozen=True)
class PosteriorChoice:
    """A posterior sampler by name.

    inner_steps: Euler steps of GLASS, steps of an SDE rollout, or jumps of the map.
    """

    kind: Kind
    inner_steps: int = 1

    @property
    def role(self) -> Role:
        """Whose rows a draw spends."""
        named: dict[Kind, Role] = {"map": "map", "exact": "oracle"}
        return named.get(self.kind, "flow")

    @property
    def rows(self) -> int:
        """Rows per draw beyond the velocity at (x, t), which the step has anyway."""
        if self.kind in ("tweedie", "gaussian"):
            return 0
        return {"map": self.inner_steps, "exact": 1}.get(self.kind, self.inner_steps - 1)

    @property
    def differentiates_flow(self) -> bool:
        """Whether a pathwise gradient passes through the velocity at (x, t)."""
        return self.kind not in ("map", "exact")

    def needs(self, gradient: bool) -> set[Need]:
        """What the problem must offer."""
        if self.kind == "map":
            return {Need.FLOW_MAP}
        if self.kind == "exact":
            # A categorical draw has no derivative in x.
            return {Need.PATHWISE_POSTERIOR} if gradient else {Need.POSTERIOR}
        return set()

    def work(self, draws: int, gradient: bool) -> Work:
        """Rows of one steering step's draws; the shared velocity's forward is the step's own."""
        work = forward(self.role, draws * self.rows)
        if not gradient:
            return work
        work = work + backward(self.role, draws * self.rows)
        return work + backward("flow") if self.differentiates_flow else work

    def build(self, problem: Problem, flow: Remembered) -> PosteriorSampler:
        """The sampler, over metered callables."""
        if self.kind == "map":
            assert problem.flow_map is not None
            return MapPosterior(problem.flow_map, self.inner_steps)
        if self.kind == "exact":
            assert problem.posterior is not None
            return problem.posterior
        if self.kind == "glass":
            return Glass(flow, self.inner_steps)
        if self.kind == "sde":
            return SDERollout(flow, self.inner_steps)
        return Tweedie(flow) if self.kind == "tweedie" else Gaussian(flow)
