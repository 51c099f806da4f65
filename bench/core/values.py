"""Values that pass between methods, tasks, metrics and the runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.core.credibility import Credibility
from bench.core.timing import GUIDED_ROWS, Timing, UnstatedSteps


@dataclass(frozen=True)
class Samples:
    """What a method returns.

    x: (n, *event_shape).  log_weight: (n,) for weighted draws, else None.  group: (n,) ids; rows
    of one particle population or one search are dependent and share an id.  log_z: an estimate of
    log Z.  info: diagnostics.
    """

    x: Tensor
    log_weight: Tensor | None = None
    group: Tensor | None = None
    log_z: float | None = None
    info: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, rows: range) -> Samples:
        """Some of them, without what is said of all."""
        own = slice(rows.start, rows.stop)
        weight, group = (None if v is None else v[own] for v in (self.log_weight, self.group))
        return Samples(self.x[own], weight, group)

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """Concatenate batches; groups are renumbered apart, diagnostics averaged by batch size."""
        n = sum(map(len, parts))
        keys = {key for part in parts for key in part.info}
        info = {k: sum(p.info.get(k, 0.0) * len(p) for p in parts) / n for k in sorted(keys)}
        return Samples(
            torch.cat([p.x for p in parts]),
            _cat([p.log_weight for p in parts]),
            _cat(_apart([p.group for p in parts])),
            _joined_log_z(parts),
            info,
        )


def _joined_log_z(parts: Sequence[Samples]) -> float | None:
    """log of the mean of Z over all samples: it is Z, not log Z, that is estimated unbiasedly."""
    known = [(p.log_z, len(p)) for p in parts if p.log_z is not None]
    if len(known) < len(parts):
        return None
    values = torch.tensor([log_z for log_z, _ in known], dtype=torch.float64)
    sizes = torch.tensor([float(size) for _, size in known], dtype=torch.float64)
    return float((values + (sizes / sizes.sum()).log()).logsumexp(0))


def _apart(groups: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Group ids of consecutive batches, shifted so that no two batches share one."""
    out: list[Tensor | None] = []
    offset = 0
    for group in groups:
        if group is None:
            out.append(None)
            continue
        ids = torch.unique(group, return_inverse=True)[1]
        out.append(ids + offset)
        offset += int(ids.max()) + 1
    return out


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if len(present) == len(parts) else None


@dataclass(frozen=True)
class OwnSamples:
    """Base samples that stand for data: how many, each in how many steps of the flow."""

    samples: int
    steps: int


@dataclass(frozen=True)
class ProblemSpec:
    """Shapes and flags from which a method's work is predicted; no weights are loaded."""

    event_shape: tuple[int, ...]
    reward_differentiable: bool = True
    has_decoder: bool = False
    has_flow_map: bool = False
    has_posterior: bool = False
    has_oracle: bool = False
    trainable: bool = False
    guided: bool = False
    """Whether a flow or map call runs twice (classifier-free guidance)."""
    timing: Timing = Timing()
    """The flow's own times and rows, if it has them."""
    own_samples: OwnSamples | None = None
    """What a fit trains on where there are no data."""
    conditions: int = 1
    """How many a fit is for."""
    highest: float | None = field(default=None, compare=False)
    """The largest value of strength * reward, where one is known; no work depends on it."""

    @property
    def data_calls(self) -> float:
        """Flow calls, as `calls` counts them, that the data of a condition cost a fit.

        Those of its own samples; data that a task has cost it nothing.
        """
        own = self.own_samples
        if own is None:
            return 0.0
        try:
            return own.samples * self.calls(self.grid(own.steps)[:-1])
        except UnstatedSteps as error:
            raise UnstatedSteps(f"the base samples that a fit is trained on: {error}") from error

    def grid(self, steps: int, start: float = 0.0, end: float = 1.0) -> list[float]:
        """The times that `Problem.grid` will give."""
        return self.timing.grid(steps, start, end)

    def remaining(self, t: float, steps: int, end: float = 1.0) -> list[float]:
        """The times that `Problem.remaining` will give."""
        return self.timing.remaining(t, steps, end)

    def calls(self, times: Sequence[float]) -> float:
        """What one flow call at each of these times is worth, in calls of the most rows.

        Their number, unless the flow's rows follow the time.  A method that counts its flow rows so
        is then predicted exactly; one that counts them plainly, from above.
        """
        if self.timing.rows is None:
            return float(len(times))
        return sum(map(self.timing.rows_at, times)) / self.timing.most_rows

    @property
    def flow_rows(self) -> int:
        """Network rows of a flow call: the most, if they follow the time."""
        return self.map_rows if self.timing.rows is None else self.timing.most_rows

    @property
    def map_rows(self) -> int:
        """Network rows of a map call."""
        return GUIDED_ROWS if self.guided else 1


def ode_calls(spec: ProblemSpec, grid: Sequence[float], solver: str) -> float:
    """Flow calls of the named ODE solver over a grid, as `ProblemSpec.calls` counts them."""
    begins, ends = spec.calls(grid[:-1]), spec.calls(grid[1:])
    return begins + (ends if solver == "heun" else 0.0)


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves behind: the adapted weights and a record of how they came about."""

    state: dict[str, Tensor]
    record: dict[str, float]


@dataclass(frozen=True)
class Reference:
    """A sample that stands for a law: exact, or real data with weights.

    x: (n, *data_shape), weight: (n,) summing to 1 or None, exact: drawn from the law itself.
    """

    x: Tensor
    weight: Tensor | None = None
    exact: bool = False

    @property
    def effective_size(self) -> float:
        """1 / sum of squared weights."""
        return float(len(self.x)) if self.weight is None else float(1 / self.weight.square().sum())


@dataclass(frozen=True)
class Measurement:
    """A metric's value; `value` is None when it refuses, and `note` says why."""

    value: float | None
    standard_error: float | None = None
    n: int = 0
    note: str = ""
    per_sample: Tensor | None = None
    credibility: Credibility = Credibility()
