"""One Gaussian with a linear reward, in double precision: every law is known in closed form."""

import torch

from bench.core.metered import MeteredFlow, MeteredMap, MeteredPosterior
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.problem import Problem
from bench.models.mixture import Mixture
from bench.models.mixture_roles import MixtureFlow, MixturePosterior

MEAN, VARIANCE, SLOPE = 0.7, 0.6, 1.2


def mixture_problem(data, reward, n, seed=0, flow_map=None):
    """The problem of an exact mixture, with its posterior."""
    meter = Meter()
    return Problem(
        flow=MeteredFlow(MixtureFlow(data), meter, None),
        reward=meter.wrap("reward", reward),
        meter=meter,
        source=NoiseSource(seed, "gaussian", dtype=torch.float64),
        rows=range(n),
        flow_map=flow_map and MeteredMap(flow_map, meter, None),
        posterior=MeteredPosterior(MixturePosterior(data), meter, None),
    )


def gaussian_problem(n, seed=0, reward=lambda x: SLOPE * x[:, 0]):
    one = torch.ones(1).double()
    data = Mixture(one, MEAN * one[None], VARIANCE * one[None, None])
    return mixture_problem(data, reward, n, seed)
