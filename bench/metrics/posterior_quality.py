"""How good a posterior sampler is, on data: joint Frechet and per-context energy distances.

Contexts are real data noised to a time t, so the pairs (x_t, x1) of the data are exact draws of
the joint law.  A sampler that ignores its context can match the marginal of x1 but not the joint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.contracts import PosteriorSampler
from bench.core.interpolant import Linear
from bench.core.noise import NoiseSource


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

    def __iter__(self):  # type: ignore[no-untyped-def]
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


@torch.no_grad()
def joint_frechet(sampler: PosteriorSampler | None, contexts: Contexts, shuffle: bool = False
                  ) -> float:
    """Frechet distance of [x_t, draw] to [x_t, x1] over all contexts and seeds.

    With no sampler, the floor: the true pairs against true pairs with fresh context noise.
    `shuffle` hands every draw the context of another datum.
    """
    truth, drawn = [], []
    for x, t, noise in contexts:
        truth.append(torch.cat([x.flatten(1), contexts.x1.flatten(1)], 1))
        if sampler is not None:
            given = x.roll(1, 0) if shuffle else x
            x1 = sampler.draw(given, t, 1, noise)[0]
            drawn.append(torch.cat([x.flatten(1), x1.flatten(1)], 1))
    if sampler is None:
        fresh = Contexts(contexts.x1, contexts.t, contexts.seeds, contexts.salt + "-fresh")
        drawn = [torch.cat([x.flatten(1), fresh.x1.flatten(1)], 1) for x, _, _ in fresh]
    return gaussian_frechet(torch.cat(drawn), torch.cat(truth))


@torch.no_grad()
def context_energy(
    sampler: PosteriorSampler,
    reference: PosteriorSampler,
    x: Tensor,
    t: float,
    draws: int = 256,
    shuffle: bool = False,
) -> float:
    """Mean over contexts x (n, *event) of the energy distance between draws and reference draws.

    The sampler and the reference use different noise; pass the reference as sampler for the floor.
    """
    times = torch.full((len(x),), t)

    def noise_of(salt: str):  # type: ignore[no-untyped-def]
        source = NoiseSource(0, salt)
        return lambda name, shape: source.normal(name, 0, shape, range(len(x)))

    given = x.roll(1, 0) if shuffle else x
    ours = sampler.draw(given, times, draws, noise_of("draws")).transpose(0, 1).flatten(2)
    theirs = reference.draw(x, times, draws, noise_of("reference")).transpose(0, 1).flatten(2)
    return float(energy_distance(ours, theirs).mean())
