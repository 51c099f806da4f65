"""Cheap figures of a network while it trains: its samples, its posterior draws, its values.

    frechet-K          of K-step samples of the base law to data
    joint-T-map-K      Frechet distance of [x_t, draw] to [x_t, x1], data noised to t = T
    energy-T-map-K     energy distance of draws given x_t to the posterior, mean over contexts
    value-T-map-K      RMSE of V_t(x) = log E[e^r(x1) | x_t = x] from DRAWS draws, r linear

and the same of `glass-K`, K evaluations of the flow that the map learns from on equal noise, and
of `exact`, the exact posterior where there is one: the floor that finite samples leave.
Frechet distances are those of Gaussians on at most AXES principal axes of the data.  All sizes and
noises are fixed, so a series shows training and not luck.  `bench.metrics.world_quality` measures
the end result at larger sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from bench.core.contracts import Flow, PosteriorSampler
from bench.core.estimators import log_mean_exp
from bench.core.integrate import Step, euler, integrate, uniform_grid
from bench.core.map_posterior import MapPosterior
from bench.core.noise import NoiseSource
from bench.core.posterior import Glass
from bench.core.quadratic import Quadratic, linear
from bench.metrics.posterior_quality import Contexts, draws_at, energy_distance, gaussian_frechet
from bench.models.autoencoder import Autoencoder
from bench.models.digits import UnconditionalMap
from bench.models.digits_data import load
from bench.models.meta_flow_map import FlowNet, MetaFlowMapNet
from bench.models.mixture import paper_mixture
from bench.models.mixture_roles import MixtureFlow, MixturePosterior
from bench.models.shapes_render import pictures

TIMES = (0.2, 0.5)
STEPS = (1, 2, 4)
AXES = 32
SAMPLES, PAIRS, CONTEXTS, DRAWS = 1024, 1024, 32, 96
REFERENCE_STEPS, REFERENCE_DRAWS = 10, 192
STRENGTH = 2.0
SEED = 10_007
"""Of the data that a world is measured on; trainings use small seeds."""

Figures = dict[str, float]
Value = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class World:
    """What the networks of a task are measured against.

    data: (n, *event).  flow: the base flow, if it is known without training; posterior and
    value(reward): exact ones, if there are any.
    """

    data: Tensor
    flow: Flow | None = None
    posterior: PosteriorSampler | None = None
    value: Callable[[Quadratic], Value] | None = None

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Variances and principal axes (d, k), largest last."""
        values, vectors = torch.linalg.eigh(torch.cov(self.data.flatten(1).double().T))
        return values[-AXES:], vectors[:, -AXES:]

    def project(self, x: Tensor) -> Tensor:
        """(n, *event) -> (n, k) in float64."""
        return x.flatten(1).double() @ self.spectrum[1]

    @cached_property
    def reward(self) -> Quadratic:
        """Along the first principal axis, with a standard deviation of STRENGTH over the data."""
        values, axes = self.spectrum
        return linear((STRENGTH * axes[:, -1] / values[-1].sqrt()).float())


def gmm_paper(_: tuple[int, ...]) -> World:
    """The paper's mixture: posterior and value are exact."""
    mixture = paper_mixture(torch.float32)
    data = mixture.sample(2 * SAMPLES, torch.Generator().manual_seed(SEED))

    def value(reward: Quadratic) -> Value:
        return lambda x, t: mixture.value(x, t, reward)

    return World(data, MixtureFlow(mixture), MixturePosterior(mixture), value)


def digits(_: tuple[int, ...]) -> World:
    """The 1,797 digits; the posterior is that of the trained flow, by GLASS in small steps."""
    return World(load("all").x)


@torch.no_grad()
def encoded(code: Autoencoder) -> World:
    """Codes of fresh renders; networks are asked without a label."""
    found = code.encode(pictures(2 * SAMPLES, SEED)[0])
    noise = NoiseSource(SEED, "validation").normal(
        "code", 0, found.mean.shape[1:], range(len(found.mean))
    )
    return World(found.draw(noise))


WORLDS = {"gmm-paper": gmm_paper, "digits": digits}


class BaseVelocity:
    """The flow inside a map, v_{t,t}(x; 0, 0)."""

    def __init__(self, net: MetaFlowMapNet) -> None:
        self.net, self.event_shape, self.interpolant = net, net.event_shape, net.interpolant

    def velocity(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        """b_t(x)."""
        return self.net.velocity(x, t, t, torch.zeros_like(x), torch.zeros_like(t))


@dataclass(frozen=True)
class _Truth:
    """At one time: contexts x, posterior draws (contexts, n, d) and values given them."""

    x: Tensor
    draws: Tensor
    value: Tensor


class Validator:
    """Figures of a flow or a meta flow map of a task; other networks and tasks have none.

    A finished flow that it is told of is what maps are compared with; without one, a map is
    compared with its own base velocity.  A finished autoencoder makes the world of its latents.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.flow: Flow | None = None
        self._world: World | None = None
        self._known: dict[float, tuple[_Truth, Figures]] = {}

    def learn(self, network: nn.Module) -> None:
        """Remember a finished network if it is a flow or an autoencoder."""
        if isinstance(network, Autoencoder):
            self._world = encoded(copy.deepcopy(network).to("cpu"))
        if isinstance(network, FlowNet):
            self.flow = copy.deepcopy(network).to("cpu")
            self._known.clear()

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        if not isinstance(network, FlowNet | MetaFlowMapNet):
            return {}
        if self._world is None and self.task in WORLDS:
            self._world = WORLDS[self.task](network.event_shape)
        if self._world is None:
            return {}
        if isinstance(network, FlowNet):
            return samples(self._world, euler(network.velocity))
        return self._map(self._world, network)

    def _map(self, world: World, network: MetaFlowMapNet) -> Figures:
        flow_map = UnconditionalMap(network)
        figures = samples(world, flow_map.jump)
        for t in TIMES:
            truth, glass = self._truth(world, network, t)
            figures |= glass
            for k in STEPS:
                figures |= posterior(world, truth, t, f"map-{k}", MapPosterior(flow_map, k))
        return figures

    def _truth(self, world: World, network: MetaFlowMapNet, t: float) -> tuple[_Truth, Figures]:
        """The truth at t and the others' figures; a fixed flow fixes them once and for all."""
        fixed = world.flow or self.flow
        if fixed is not None and t in self._known:
            return self._known[t]
        flow = fixed or BaseVelocity(network)
        truth = make_truth(world, flow, t)
        others: dict[str, PosteriorSampler] = {f"glass-{k}": Glass(flow, k) for k in STEPS}
        if world.posterior is not None:
            others["exact"] = world.posterior
        figures: Figures = {}
        for name, sampler in others.items():
            figures |= posterior(world, truth, t, name, sampler)
        self._known[t] = truth, figures
        return truth, figures


def samples(world: World, step: Step) -> Figures:
    """frechet-K of K equal steps from common noise."""
    x0 = NoiseSource(SEED, "validation").normal("x0", 0, world.data.shape[1:], range(SAMPLES))
    data = world.project(world.data)
    ends = {k: integrate(step, x0, uniform_grid(k)) for k in STEPS}
    return {f"frechet-{k}": gaussian_frechet(world.project(x), data) for k, x in ends.items()}


def make_truth(world: World, flow: Flow, t: float) -> _Truth:
    """Exact draws and values, or those of GLASS with 2 REFERENCE_STEPS evaluations."""
    x = next(iter(Contexts(world.data[:CONTEXTS], t, salt="validation")))[0]
    exact = world.posterior or Glass(flow, REFERENCE_STEPS, "heun")
    draws = draws_at(exact, x, t, REFERENCE_DRAWS, "reference")
    if world.value is not None:
        return _Truth(x, draws, world.value(world.reward)(x, torch.full((len(x),), t)))
    return _Truth(x, draws, log_mean_exp(world.reward(draws).T))


def posterior(
    world: World, truth: _Truth, t: float, name: str, sampler: PosteriorSampler
) -> Figures:
    """The three figures of one sampler at one time."""
    draws = draws_at(sampler, truth.x, t, DRAWS, "draws")
    value = log_mean_exp(world.reward(draws).T)
    x, times, noise = next(iter(Contexts(world.data[-PAIRS:], t)))
    drawn, given = sampler.draw(x, times, 1, noise)[0], world.project(x)
    pairs = (torch.cat([given, world.project(x1)], 1) for x1 in (drawn, world.data[-PAIRS:]))
    return {
        f"joint-{t}-{name}": gaussian_frechet(*pairs),
        f"energy-{t}-{name}": float(energy_distance(draws, truth.draws).mean()),
        f"value-{t}-{name}": float((value - truth.value).square().mean().sqrt()),
    }
