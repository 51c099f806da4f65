"""Particles steered by the reward at the end of the flow map's trajectory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.api import (
    ParticleDesign,
    ParticleMethod,
    PosteriorChoice,
    output_param,
    param,
    resampling_param,
    start_param,
    transition_param,
)


@dataclass(frozen=True)
class FMTTParams:
    """Particles as in the other samplers of the family; the look-ahead is the map's."""

    particles: int = param(256, low=1, high=100_000, log=True, help="particles P per population")
    steps: int = param(20, low=1, least=5, high=2000, log=True, help="time steps K")
    jacobian: bool = param(True, help="gradient through the map; false: at its end, no backward")
    inner_steps: int = param(1, low=1, high=16, log=True, help="map jumps of one look-ahead")
    resampling: str = resampling_param("systematic")
    threshold: float = param(0.5, low=0.0, high=1.0, help="resample when ESS < threshold * P")
    output: str = output_param()
    start: float = start_param()
    variance: str = transition_param()


class FMTT(ParticleMethod):
    """Flow-map trajectory tilting: particles steered by the reward at X_{t,1}(x), and weighed.

    Sabour et al. 2025 (arXiv 2511.22688): the laws p_t e^(t r(X_{t,1})) lead from noise to the
    tilted law; along the flow X_{t,1} stands still, so that the paper's weights, of a Langevin
    process in continuous time, are the integral of r(X_{t,1}(x_t)) dt.  Here the same laws are
    followed by the ancestral chain with the exact ratio of every step in the weights, as in `tds`:
    for K steps the tilted law of the chain is met as P grows, with an unbiased estimate of Z,
    whatever the map's error and with or without its Jacobian.  At small P biased towards greedy
    ascent.  Assumes a differentiable reward and a flow map.  Cost per sample: P (K flow + (K - 1)
    (inner_steps map forwards + backwards + reward forward + backward) + reward forward).
    """

    summary = "particles steered by the reward at the flow map's look-ahead, with weights"
    standing = "baseline"
    Params = FMTTParams
    twisted = True

    @property
    def value(self) -> PosteriorChoice:
        """The look-ahead."""
        return PosteriorChoice("jump", self.params.inner_steps, jacobian=self.params.jacobian)

    @property
    def draws(self) -> int:
        return 1

    def design(self) -> ParticleDesign:
        """The reward of a look at t has the factor t."""
        return replace(super().design(), fade=float)
