"""The measured quality that a recipe carries: posterior draws, classifiers, memorisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.core.contracts import PosteriorSampler
from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.map_posterior import MapPosterior
from bench.core.posterior import Glass
from bench.metrics.posterior_quality import (
    Contexts,
    Empirical,
    draws_at,
    energy_distance,
    joint_frechet,
)
from bench.metrics.shapes_quality import shapes_quality
from bench.metrics.two_sample import sliced_w2
from bench.models.digits import UnconditionalMap
from bench.models.digits_data import FOLDS, load
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.mixture import Mixture, paper_mixture
from bench.models.mixture_roles import MixtureFlow
from bench.models.nets import Classifier

TIMES = (0.2, 0.5, 0.8)
GLASS_STEPS = (1, 2, 4, 8, 20)
MAP_STEPS = (1, 2, 4)
CONTEXTS, DRAWS = 64, 256
REFERENCE_STEPS = 100

Figures = dict[str, Any]


def quality(task: str, networks: dict[str, nn.Module]) -> Figures:
    """The figures of a world's networks."""
    worlds = {"digits": digits_quality, "gmm-paper": gmm_quality, "shapes": shapes_quality}
    return worlds[task](networks)


@torch.no_grad()
def digits_quality(networks: dict[str, nn.Module]) -> Figures:
    """Posterior quality at three times, accuracies on the held-out digits, memorisation."""
    flow = cast(FlowNet, networks["flow"]).eval()
    flow_map = UnconditionalMap(cast(MetaFlowMapNet, networks["map"]).eval())
    return {
        "posterior": {str(t): posterior_figures(flow, flow_map, t) for t in TIMES},
        "accuracy": {name: _accuracy(cast(Classifier, networks[name])) for name in FOLDS},
        "memorisation_ratio": memorisation(flow),
    }


def posterior_figures(
    flow: FlowNet, flow_map: UnconditionalMap, t: float, seeds: int = 16
) -> Figures:
    """{sampler: [joint Frechet, energy distance to 100-step GLASS]} with the floors and shuffles.

    Contexts are the 1,797 digits noised `seeds` times; the energy distance uses 64 contexts and
    256 draws each.  The floor of the first is the exact posterior of the 1,797 digits, that of the
    second is GLASS against itself.
    """
    data = load("all").x
    contexts = Contexts(data, t, seeds)
    x = next(iter(contexts))[0][:CONTEXTS]
    reference = draws_at(Glass(flow, REFERENCE_STEPS), x, t, DRAWS, "reference")

    def energy(sampler: PosteriorSampler, shuffle: bool = False) -> float:
        given = x.roll(1, 0) if shuffle else x
        draws = draws_at(sampler, given, t, DRAWS, "draws")
        return round(float(energy_distance(draws, reference).mean()), 5)

    def both(sampler: PosteriorSampler, shuffle: bool = False) -> list[float]:
        return [round(joint_frechet(sampler, contexts, shuffle), 4), energy(sampler, shuffle)]

    floor = [
        round(joint_frechet(Empirical(data), contexts), 4),
        energy(Glass(flow, REFERENCE_STEPS)),
    ]
    maps = {f"map-{k}": both(MapPosterior(flow_map, k)) for k in MAP_STEPS}
    glass = {f"glass-{k}": both(Glass(flow, k)) for k in GLASS_STEPS}
    shuffled = both(MapPosterior(flow_map, 1), shuffle=True)
    return {"floor": floor, **maps, **glass, "map-1-shuffled": shuffled}


def _accuracy(net: Classifier) -> float:
    held_out = load("held-out")
    hits = net(held_out.x).argmax(-1) == held_out.y
    return round(float(hits.float().mean()), 4)


def memorisation(flow: FlowNet, n: int = 2000, steps: int = 50) -> float:
    """Median nearest-training distance of samples over that of held-out digits.

    1 means that samples are as far from the training set as new digits are; well below 1 means
    that the flow repeats its training images.
    """
    train, held_out = load("train").x.flatten(1), load("held-out").x.flatten(1)
    x0 = torch.randn(n, *flow.event_shape, generator=torch.Generator().manual_seed(0))
    samples = integrate(euler(flow.velocity), x0, uniform_grid(steps)).flatten(1)
    return round(_nearest(samples, train) / _nearest(held_out, train), 4)


def _nearest(x: Tensor, y: Tensor) -> float:
    return float(torch.cdist(x, y).min(1).values.median())


@torch.no_grad()
def gmm_quality(networks: dict[str, nn.Module]) -> Figures:
    """Sliced W2 of 1,024 draws to exact posterior draws, mean over 64 states, with its floor."""
    mixture = paper_mixture(torch.float32)
    flow_map = UnconditionalMap(cast(MetaFlowMapNet, networks["map"]).eval())
    return {str(t): posterior_w2(mixture, flow_map, t) for t in (0.1, 0.3, 0.6, 0.9)}


def posterior_w2(mixture: Mixture, flow_map: UnconditionalMap, t: float) -> Figures:
    """The map and GLASS at one time; see `w2_to_exact`."""
    samplers: dict[str, PosteriorSampler] = {
        f"map-{k}": MapPosterior(flow_map, k) for k in MAP_STEPS
    }
    samplers |= {f"glass-{k}": Glass(MixtureFlow(mixture), k) for k in (1, 2, 4, 8)}
    return w2_to_exact(mixture, samplers, t)


def w2_to_exact(
    mixture: Mixture,
    samplers: Mapping[str, PosteriorSampler],
    t: float,
    states: int = 64,
    draws: int = 1024,
) -> Figures:
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
