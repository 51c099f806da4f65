"""How good a posterior sampler is, on data: joint Frechet and per-context energy distances.

Contexts are real data noised to a time t, so the pairs (x_t, x1) of the data are exact draws of
the joint law.  A sampler that ignores its context can match the marginal of x1 but not the joint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.noise import NoiseSource, uniform
from bench.core.paths import Linear
from bench.core.protocols import Condition, Noise, PosteriorSampler


def gaussian_frechet(x: Tensor, y: Tensor) -> float:
    """|mx - my|^2 + tr(Cx + Cy - 2 (Cx Cy)^(1/2)) of two samples (n, d), in float64."""
    x, y = x.double(), y.double()
    cx, cy = torch.cov(x.T), torch.cov(y.T)
    values, vectors = torch.linalg.eigh(cx)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cy @ root).clamp(min=0).sqrt().sum()
    gap = (x.mean(0) - y.mean(0)).square().sum()
    return float(gap + cx.trace() + cy.trace() - 2 * cross)


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| per context, unbiased; x, y are (contexts, n, d)."""
    n, m = x.shape[1], y.shape[1]
    cross = torch.cdist(x, y).mean((1, 2))
    within_x = torch.cdist(x, x).sum((1, 2)) / (n * (n - 1))
    within_y = torch.cdist(y, y).sum((1, 2)) / (m * (m - 1))
    return 2 * cross - within_x - within_y


@dataclass(frozen=True)
class Contexts:
    """Data x1 (n, *event) noised to time t with `seeds` independent noises each."""

    x1: Tensor
    t: float
    seeds: int = 16
    salt: str = "contexts"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Noise]]:
        """(x_t, t, noise function for the draw) per seed; shared by every sampler."""
        times = torch.full((len(self.x1),), self.t)
        for seed in range(self.seeds):
            source = NoiseSource(seed, self.salt)
            rows = range(len(self.x1))
            x0 = source.normal("context", 0, tuple(self.x1.shape[1:]), rows)
            x = Linear().noised(self.x1, x0, times)

            def noise(name: str, shape: tuple[int, ...], source: NoiseSource = source) -> Tensor:
                return source.normal(name, 0, shape, range(len(self.x1)))

            yield x, times, noise


class Empirical:
    """The exact posterior of a finite data set: p(x1 = y_i | x) ~ exp(-|x - t y_i|^2 / 2(1-t)^2).

    On contexts made from the same data it is the perfect sampler, and so gives the floor of the
    joint distance; a model that generalises stays above it.
    """

    pathwise = False
    rows_per_draw = 0

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event): data points picked by their posterior weight."""
        square = torch.cdist(x.flatten(1), t[0] * self.data.flatten(1)).square()
        cumulative = (-square / (2 * (1 - t[0]) ** 2)).double().softmax(1).cumsum(1)
        u = uniform(noise("component", (n,)).double()).clamp(max=1 - 1e-9)
        pick = torch.searchsorted(cumulative, u.contiguous()).clamp(max=len(self.data) - 1)
        return self.data[pick.T]


@torch.no_grad()
def joint_frechet(sampler: PosteriorSampler, contexts: Contexts, shuffle: bool = False) -> float:
    """Frechet distance of the pairs [x_t, draw] to [x_t, x1] over all contexts and noise seeds.

    `shuffle` hands every draw the context of another datum, which a sampler that uses its context
    must notice.
    """
    truth, drawn = [], []
    for x, t, noise in contexts:
        given = x.roll(1, 0) if shuffle else x
        x1 = sampler.draw(given, t, 1, noise)[0]
        truth.append(torch.cat([x.flatten(1), contexts.x1.flatten(1)], 1))
        drawn.append(torch.cat([x.flatten(1), x1.flatten(1)], 1))
    return gaussian_frechet(torch.cat(drawn), torch.cat(truth))


@torch.no_grad()
def draws_at(sampler: PosteriorSampler, x: Tensor, t: float, n: int, salt: str) -> Tensor:
    """(contexts, n, d) draws with the noise stream `salt`."""
    source = NoiseSource(0, salt)

    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return source.normal(name, 0, shape, range(len(x)))

    times = torch.full((len(x),), t)
    return sampler.draw(x, times, n, noise).transpose(0, 1).flatten(2)
