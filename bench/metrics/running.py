"""Moments of features that never lie in memory together: counted block by block, and merged.

Of two parts a and b with n rows, mean m and scatter S = sum (x - m)(x - m)' (Chan et al. 1979):

    m = m_a + d n_b / n,    S = S_a + S_b + d d' n_a n_b / n,    d = m_b - m_a

in float64.  A state is plain arrays, so that it can be written down and gone on with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core import atomic
from bench.core.params import UserError
from bench.metrics.arrays import Array
from bench.metrics.frechet import Moments


@dataclass(frozen=True)
class Running:
    """n rows of (d,) features: their mean and scatter; `empty` is where counting starts."""

    n: int
    mean: Array
    scatter: Array

    @classmethod
    def empty(cls, dimension: int) -> Running:
        """Of no rows."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @classmethod
    def of(cls, features: Array) -> Running:
        """Of the rows of (n, d), n > 0."""
        wide = np.asarray(features, dtype=np.float64)
        mean = wide.mean(0)
        centred = wide - mean
        return cls(len(wide), mean, centred.T @ centred)

    def update(self, features: Array) -> Running:
        """With more rows."""
        return self.merge(Running.of(features)) if len(features) else self

    def merge(self, other: Running) -> Running:
        """Of the rows of both."""
        n = self.n + other.n
        if not n:
            return self
        gap, share = other.mean - self.mean, other.n / n
        between = np.outer(gap, gap) * (self.n * share)
        return Running(n, self.mean + gap * share, self.scatter + other.scatter + between)

    def finish(self) -> Moments:
        """Mean and covariance with n - 1 in the denominator; UserError for fewer than two rows."""
        if self.n < 2:
            raise UserError(f"{self.n} pictures have no covariance: give two or more")
        return Moments(self.mean, self.scatter / (self.n - 1), self.n)


def streamed(blocks: Iterable[Array], dimension: int) -> Moments:
    """Moments of blocks of rows that come one after another."""
    running = Running.empty(dimension)
    for block in blocks:
        running = running.update(block)
    return running.finish()


EVERY = 2048
"""Pictures between two states that are written down."""


def counted(
    pictures: Sequence[Path],
    blocks: Callable[[Sequence[Path]], Iterable[Array]],
    dimension: int,
    state: Path,
    said: dict[str, str],
    every: int = EVERY,
) -> Moments:
    """Moments of the features of pictures; whoever was stopped goes on from the last state.

    blocks: gives the (k, dimension) features of pictures, some at a time.  state: the file of what
    was counted so far, written after `every` pictures and removed at the end; one that was `said`
    to be of something else is not gone on from.
    """
    running = _read_state(state, said) or Running.empty(dimension)
    for start in range(running.n, len(pictures), every):
        for block in blocks(pictures[start : start + every]):
            running = running.update(block)
        if running.n < len(pictures):
            _write_state(state, running, said)
    state.unlink(missing_ok=True)
    return running.finish()


def _write_state(path: Path, running: Running, said: dict[str, str]) -> None:
    from safetensors.numpy import save

    tensors = {"mean": running.mean, "scatter": running.scatter, "n": np.array([running.n])}
    atomic.write(path, save(tensors, said))


def _read_state(path: Path, said: dict[str, str]) -> Running | None:
    """The state of a file, or None where there is none of what is `said`."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as kept:
            if kept.metadata() != said:
                return None
            n, mean, scatter = (kept.get_tensor(name) for name in ("n", "mean", "scatter"))
    except SafetensorError:
        return None
    return Running(int(n[0]), mean, scatter)


def write_moments(path: Path, found: Moments, said: dict[str, str]) -> None:
    """As safetensors: mean, covariance and n, with what they are of as metadata."""
    from safetensors.numpy import save

    tensors = {"mean": found.mean, "covariance": found.covariance, "n": np.array([found.n])}
    atomic.write(path, save(tensors, said))


def read_moments(path: Path) -> Moments:
    """What `write_moments` wrote; UserError where it is not."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(path)
        return Moments(found["mean"], found["covariance"], int(found["n"][0]))
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(
            f"{path} holds no moments ({error}): write them with 'bench prepare statistics'"
        ) from error
