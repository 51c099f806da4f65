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

from bench.core.estimators import log_mean_exp
from bench.core.integrate import Step, euler, integrate, uniform_grid
from bench.core.map_posterior import MapPosterior
from bench.core.noise import NoiseSource
from bench.core.posterior import Glass
from bench.core.protocols import Flow, PosteriorSampler
from bench.core.quadratic import Quadratic, linear
from bench.metrics.posterior_quality import Contexts, draws_at, energy_distance, gaussian_frechet
from bench.models.digits import UnconditionalMap
from bench.models.meta_flow_map import BaseVelocity, FlowNet, MetaFlowMapNet

VALIDATION_TIMES = (0.2, 0.5)
STEPS = (1, 2, 4)
AXES = 32
SAMPLES, PAIRS, CONTEXTS, DRAWS = 1024, 1024, 32, 96
HEUN_STEPS, REFERENCE_DRAWS = 10, 192
REWARD_DEVIATION = 2.0
LAW_SEED, LAW_ROWS = 10_007, 2 * SAMPLES
"""Of the data that networks are measured against; trainings use small seeds."""

Networks = dict[str, nn.Module]
Figures = dict[str, float]
Value = Callable[[Tensor, Tensor], Tensor]
"""(x, t) -> V_t(x), (batch,)."""


@dataclass(frozen=True)
class ReferenceLaw:
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
        """Along the first principal axis; its deviation over the data is REWARD_DEVIATION."""
        values, axes = self.spectrum
        return linear((REWARD_DEVIATION * axes[:, -1] / values[-1].sqrt()).float())


@dataclass(frozen=True)
class _Truth:
    """At one time: contexts x, posterior draws (contexts, n, d) and values given them."""

    x: Tensor
    draws: Tensor
    value: Tensor


class Validator:
    """Figures of a flow or a meta flow map; other networks have none, and none has any before
    there is a law to measure against.

    law: see `bench.worlds.World`.  A finished flow that it is told of is what maps are compared
    with; without one, a map is compared with its own base velocity.
    """

    def __init__(self, law: Callable[[Networks], ReferenceLaw | None]) -> None:
        self._find = law
        self._law: ReferenceLaw | None = None
        self._finished: Networks = {}
        self._known: dict[float, tuple[_Truth, Figures]] = {}

    def learn(self, name: str, network: nn.Module) -> None:
        """Remember a finished network."""
        self._finished[name] = copy.deepcopy(network).to("cpu")
        if isinstance(network, FlowNet):
            self._known.clear()

    def __call__(self, network: nn.Module) -> Mapping[str, float]:
        if not isinstance(network, FlowNet | MetaFlowMapNet):
            return {}
        if self._law is None:
            self._law = self._find(self._finished)
        if self._law is None:
            return {}
        if isinstance(network, FlowNet):
            return sample_figures(self._law, euler(network.velocity))
        return self._map(self._law, network)

    def _map(self, law: ReferenceLaw, network: MetaFlowMapNet) -> Figures:
        flow_map = UnconditionalMap(network)
        figures = sample_figures(law, flow_map.jump)
        for t in VALIDATION_TIMES:
            truth, glass = self._truth(law, network, t)
            figures |= glass
            for k in STEPS:
                figures |= posterior_figures(law, truth, t, f"map-{k}", MapPosterior(flow_map, k))
        return figures

    def _truth(
        self, law: ReferenceLaw, network: MetaFlowMapNet, t: float
    ) -> tuple[_Truth, Figures]:
        """The truth at t and the others' figures; a fixed flow fixes them once and for all."""
        flows = [net for net in self._finished.values() if isinstance(net, FlowNet)]
        fixed: Flow | None = law.flow or (flows[-1] if flows else None)
        if fixed is not None and t in self._known:
            return self._known[t]
        flow = fixed or BaseVelocity(network)
        truth = make_truth(law, flow, t)
        others: dict[str, PosteriorSampler] = {f"glass-{k}": Glass(flow, k) for k in STEPS}
        if law.posterior is not None:
            others["exact"] = law.posterior
        figures: Figures = {}
        for name, sampler in others.items():
            figures |= posterior_figures(law, truth, t, name, sampler)
        self._known[t] = truth, figures
        return truth, figures


def sample_figures(law: ReferenceLaw, step: Step) -> Figures:
    """frechet-K of K equal steps from common noise."""
    x0 = NoiseSource(LAW_SEED, "validation").normal("x0", 0, law.data.shape[1:], range(SAMPLES))
    data = law.project(law.data)
    ends = {k: integrate(step, x0, uniform_grid(k)) for k in STEPS}
    return {f"frechet-{k}": gaussian_frechet(law.project(x), data) for k, x in ends.items()}


def make_truth(law: ReferenceLaw, flow: Flow, t: float) -> _Truth:
    """Exact draws and values, or those of GLASS with 2 HEUN_STEPS evaluations."""
    x = next(iter(Contexts(law.data[:CONTEXTS], t, salt="validation")))[0]
    exact = law.posterior or Glass(flow, HEUN_STEPS, "heun")
    draws = draws_at(exact, x, t, REFERENCE_DRAWS, "reference")
    if law.value is not None:
        return _Truth(x, draws, law.value(law.reward)(x, torch.full((len(x),), t)))
    return _Truth(x, draws, log_mean_exp(law.reward(draws).T))


def posterior_figures(
    law: ReferenceLaw, truth: _Truth, t: float, name: str, sampler: PosteriorSampler
) -> Figures:
    """The three figures of one sampler at one time."""
    draws = draws_at(sampler, truth.x, t, DRAWS, "draws")
    value = log_mean_exp(law.reward(draws).T)
    x, times, noise = next(iter(Contexts(law.data[-PAIRS:], t)))
    drawn, given = sampler.draw(x, times, 1, noise)[0], law.project(x)
    pairs = (torch.cat([given, law.project(x1)], 1) for x1 in (drawn, law.data[-PAIRS:]))
    return {
        f"joint-{t}-{name}": gaussian_frechet(*pairs),
        f"energy-{t}-{name}": float(energy_distance(draws, truth.draws).mean()),
        f"value-{t}-{name}": float((value - truth.value).square().mean().sqrt()),
    }
