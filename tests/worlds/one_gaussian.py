"""One Gaussian with a linear reward, in double precision: every law is known in closed form."""

from itertools import pairwise

import torch

from bench.core.metered import MeteredFlow, MeteredMap, MeteredPosterior
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.problem import Problem
from bench.models.mixture import Mixture
from bench.models.mixture_roles import MixtureFlow, MixturePosterior

MEAN, VARIANCE, SLOPE = 0.7, 0.6, 1.2


def mixture_problem(data, reward, n, seed=0, flow_map=None, variance=None):
    """The problem of an exact mixture, with its posterior; variance: of its data, if needed."""
    meter = Meter()
    return Problem(
        flow=MeteredFlow(MixtureFlow(data), meter, None),
        reward=meter.wrap("reward", reward),
        meter=meter,
        source=NoiseSource(seed, "gaussian", dtype=torch.float64),
        rows=range(n),
        flow_map=flow_map and MeteredMap(flow_map, meter, None),
        posterior=MeteredPosterior(MixturePosterior(data), meter, None),
        data_variance=variance,
    )


def gaussian_problem(n, seed=0, reward=lambda x: SLOPE * x[:, 0]):
    one = torch.ones(1).double()
    data = Mixture(one, MEAN * one[None], VARIANCE * one[None, None])
    return mixture_problem(data, reward, n, seed, variance=VARIANCE)


# -- the memoryless chain, in closed form ---------------------------------------------------------

SPREADS = {
    "posterior": lambda t, v: 0.0,
    "signal": lambda t, v: (1 - t) ** 2 / ((1 - t) ** 2 + t**2),
    "data": lambda t, v: (1 - t) ** 2 * v / ((1 - t) ** 2 + t**2 * v),
    "exact": lambda t, v: (1 - t) ** 2 * v / ((1 - t) ** 2 + t**2 * v),
}
"""Var(x1 | x_t) as a step of each name takes it, for data of variance v."""


def chain_law(m, v, steps, variance="signal", start=0.01):
    """Mean and variance of x1 under the chain of N(m, v): N(0, 1) at `start`, then affine steps."""
    mean, total = 0.0, 1.0
    times = [*(start + (1 - start) * k / steps for k in range(steps)), 1.0]  # not nearly 1
    for t, u in pairwise(times):
        gain = t * v / ((1 - t) ** 2 + t**2 * v)  # D = m + gain (x - t m)
        rho = (1 - u) * t / ((1 - t) * u)
        noise = rho * (1 - u) / (1 - t)  # the factor of x - t D
        weight = u - noise * t  # that of D
        slope = weight * gain + noise
        mean = weight * m * (1 - gain * t) + slope * mean
        spread = SPREADS[variance](t, v) if u < 1 else 0.0
        total = slope**2 * total + (1 - u) ** 2 * (1 - rho**2) + weight**2 * spread
    return mean, total
