"""The measured quality that stands beside weights: posterior draws, and memorisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.map_posterior import MapPosterior
from bench.core.posterior import Glass
from bench.core.protocols import Flow, PosteriorSampler
from bench.metrics.posterior_quality import (
    Contexts,
    Empirical,
    draws_at,
    energy_distance,
    joint_frechet,
)
from bench.metrics.two_sample import sliced_w2
from bench.models.digits import UnconditionalMap
from bench.models.mixture import Mixture
from bench.models.mixture_roles import MixtureFlow

QUALITY_TIMES = (0.2, 0.5, 0.8)
GLASS_STEPS = (1, 2, 4, 8, 20)
MAP_STEPS = (1, 2, 4)
NOISES, CONTEXTS, DRAWS = 16, 64, 256
MEMORISED = 2000
"""Samples whose nearest training rows are looked for."""

LONG_GLASS = 100
"""Evaluations of the GLASS that stands for the truth."""

STATES = 64
"""States of a posterior that is known exactly."""

Quality = dict[str, Any]
"""Named figures, in groups, as they are written to JSON."""


def part(rows: int, share: float, least: int = 2) -> int:
    """A share of so many rows, but at least a few: what a shortened training is measured on."""
    return max(min(least, rows), round(rows * share))


def posterior_quality(
    data: Tensor, flow: Flow, flow_map: UnconditionalMap, t: float, share: float = 1.0
) -> Quality:
    """{sampler: [joint Frechet, energy distance to 100-step GLASS]} with the floors and shuffles.

    Contexts are the data (n, *event) noised 16 times; the energy distance uses 64 contexts and 256
    draws each; of noises and of these contexts, a share.  The floor of the first is the exact
    posterior of these data, that of the second is GLASS against itself.
    """
    contexts = Contexts(data, t, part(NOISES, share, least=1))
    x = next(iter(contexts))[0][: part(CONTEXTS, share)]
    reference = draws_at(Glass(flow, LONG_GLASS), x, t, DRAWS, "reference")

    def energy(sampler: PosteriorSampler, shuffle: bool = False) -> float:
        given = x.roll(1, 0) if shuffle else x
        draws = draws_at(sampler, given, t, DRAWS, "draws")
        return round(float(energy_distance(draws, reference).mean()), 5)

    def both(sampler: PosteriorSampler, shuffle: bool = False) -> list[float]:
        return [round(joint_frechet(sampler, contexts, shuffle), 4), energy(sampler, shuffle)]

    floor = [
        round(joint_frechet(Empirical(data), contexts), 4),
        energy(Glass(flow, LONG_GLASS)),
    ]
    maps = {f"map-{k}": both(MapPosterior(flow_map, k)) for k in MAP_STEPS}
    glass = {f"glass-{k}": both(Glass(flow, k)) for k in GLASS_STEPS}
    shuffled = both(MapPosterior(flow_map, 1), shuffle=True)
    return {"floor": floor, **maps, **glass, "map-1-shuffled": shuffled}


def memorisation(
    flow: Flow, train: Tensor, held_out: Tensor, n: int = MEMORISED, steps: int = 50
) -> float:
    """Median nearest-training distance of samples over that of held-out data, (m, *event) each.

    1 means that samples are as far from the training set as new data are; well below 1 means that
    the flow repeats its training data.
    """
    train, held_out = train.flatten(1), held_out.flatten(1)
    x0 = torch.randn(n, *flow.event_shape, generator=torch.Generator().manual_seed(0))
    samples = integrate(euler(flow.velocity), x0, uniform_grid(steps)).flatten(1)
    return round(_nearest(samples, train) / _nearest(held_out, train), 4)


def _nearest(x: Tensor, y: Tensor) -> float:
    return float(torch.cdist(x, y).min(1).values.median())


def posterior_w2(
    mixture: Mixture, flow_map: UnconditionalMap, t: float, share: float = 1.0
) -> Quality:
    """The map and GLASS at one time, at a share of `STATES`; see `w2_to_exact`."""
    samplers: dict[str, PosteriorSampler] = {
        f"map-{k}": MapPosterior(flow_map, k) for k in MAP_STEPS
    }
    samplers |= {f"glass-{k}": Glass(MixtureFlow(mixture), k) for k in (1, 2, 4, 8)}
    return w2_to_exact(mixture, samplers, t, part(STATES, share))


def w2_to_exact(
    mixture: Mixture,
    samplers: Mapping[str, PosteriorSampler],
    t: float,
    states: int = STATES,
    draws: int = 1024,
) -> Quality:
    """Mean over states of sliced W2 to exact draws; `floor` is exact against exact."""
    g = torch.Generator().manual_seed(0)
    x1 = mixture.sample(states, g)
    x = t * x1 + (1 - t) * torch.randn(x1.shape, generator=g)
    times = torch.full((states,), t)

    def exact() -> Tensor:
        u = torch.rand(draws, states, generator=g)
        z = torch.randn(draws, states, mixture.dimension, generator=g)
        return mixture.posterior_draws(x, times, u, z)

    truth, again = exact(), exact()
    ours = {name: draws_at(sampler, x, t, draws, "draws") for name, sampler in samplers.items()}

    def mean(other: Tensor) -> float:
        pairs = zip(truth.transpose(0, 1), other, strict=True)
        return round(sum(sliced_w2(a, b) for a, b in pairs) / states, 5)

    return {"floor": mean(again.transpose(0, 1)), **{name: mean(x) for name, x in ours.items()}}
