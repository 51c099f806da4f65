"""What a task brings: flows, maps, posterior samplers and oracles, as protocols."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from bench.core.paths import Interpolant

Condition = Any
"""A label, a prompt, a mapping of both (`bench.core.conditions`), or None: unconditional."""


class Flow(Protocol):
    """A base generative model: x0 ~ N(0, I) is carried to the data by dx/dt = b_t(x)."""

    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def interpolant(self) -> Interpolant: ...

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), shape of x (batch, *event_shape); t is (batch,)."""
        ...


class FlowMap(Protocol):
    """A deterministic two-time map of the base flow."""

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The state at time u of the trajectory that passes through x at time s."""
        ...


class MetaFlowMap(FlowMap, Protocol):
    """A flow map for every posterior; `jump` is its t = 0 slice."""

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x): X_{s,u} = x_bar + (u - s) v carries N(0, I) to p(x1 | x_t = x)."""
        ...


class Noise(Protocol):
    """Named standard normals for the rows at hand."""

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """(batch, *shape), the same for the same name."""
        ...


class PosteriorSampler(Protocol):
    """Draws from p(x1 | x_t = x), exactly or approximately."""

    pathwise: bool
    """Whether gradients with respect to x pass through a draw."""
    rows_per_draw: int
    """Model rows that one more draw at the same (x, t) costs."""

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event_shape)."""
        ...


class Oracle(Protocol):
    """The closed-form answer for one reward: what `oracle` steers with and `exact` draws from."""

    log_z: float

    def shift(self, x: Tensor, t: Tensor) -> Tensor:
        """D^r_t(x) - D_t(x); the steering term is `interpolant.tilt(shift, t)`."""
        ...

    def value(self, x: Tensor, t: Tensor) -> Tensor:
        """V_t(x), (batch,)."""
        ...

    def draw(self, z: Tensor, extra: Tensor) -> Tensor:
        """I.i.d. draws of the tilted law from normals z (n, *event_shape) and extra (n,)."""
        ...
