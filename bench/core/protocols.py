"""What a task brings: flows, maps, posterior samplers and oracles, as protocols."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from bench.core.paths import Interpolant

Condition = Any
"""A label, a prompt, a mapping of both (`bench.core.conditions`), or None: unconditional."""


class Flow(Protocol):
    """A base generative model: x0 ~ N(0, I) is carried to the data by dx/dt = b_t(x).

    A flow may say more, as `Scheduled`, `Rowed` and `HearsRows` have it.
    """

    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def interpolant(self) -> Interpolant: ...

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), shape of x (batch, *event_shape); t is (batch,)."""
        ...


class Scheduled(Flow, Protocol):
    """A flow with times of its own, such as a pipeline's; without `times` they are uniform from 0.

    The first time may be later than 0.  A run then begins at `Problem.x0(t0)`.
    """

    def times(self, steps: int) -> list[float]:
        """steps + 1 increasing times, the last 1.

        `steps` is any number that a user or matching may choose.  Raises UserError, with the
        numbers that there are, where the schedule has no such steps.
        """
        ...


class Rowed(Flow, Protocol):
    """A flow whose calls run the network on several rows each, depending on the time.

    Without `rows` a call runs two under classifier-free guidance (`Task.guided`) and one elsewhere.
    Where the number never changes, leave `rows` out: to count by it, the host reads the times of
    every call.
    """

    def rows(self, t: float) -> int:
        """Network rows per row of `velocity` at time t: 2 under guidance, 1 outside its interval.

        t comes rounded to six decimals.  In a batch of several times, each row counts for itself.
        """
        ...


class HearsRows(Flow, Protocol):
    """A flow, or a map, that takes a condition for every row (`conditions.RowConditions`).

    The runs of a cell of many conditions then share its calls.  Without it each has its own.
    """

    hears_rows: bool


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
