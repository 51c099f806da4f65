"""Problems on which search is tested, and laws of the winners on one Gaussian."""

import torch
from scipy.stats import ks_1samp, norm

from bench.core import plugins
from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.metered import MeteredFlow, MeteredMap, MeteredPosterior
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.problem import Problem
from methods.search.reno import ReNOParams, scaled
from tests.worlds.one_gaussian import gaussian_problem


def bound_problem(task, reward, n, seed, decoder=False):
    """A metered problem of two instances; a decoder, if any, belongs to the reward."""
    meter = Meter()
    scored = meter.wrap("reward", reward)
    decode = meter.wrap("decoder", lambda x: 2 * x)
    return Problem(
        flow=MeteredFlow(task.flow, meter, None),
        reward=(lambda x: scored(decode(x))) if decoder else scored,
        meter=meter,
        source=NoiseSource(seed, "search"),
        rows=range(n),
        flow_map=MeteredMap(task.flow_map, meter, None),
        posterior=None if not task.posterior else MeteredPosterior(task.posterior, meter, None),
        decode=decode if decoder else None,
    )


def problem_of(world="gmm-paper", reward="linear", n=6, seed=0, decoder=False):
    task = plugins.load("tasks", world).create()
    wish = plugins.load("rewards", reward).create()
    wish.bind(task)
    return bound_problem(task, lambda x: wish(x, None), n, seed, decoder)


def euler_map(steps):
    """Offset and slope of the Euler ODE, which is affine on a Gaussian."""
    velocity = gaussian_problem(2).flow.velocity
    ends = torch.tensor([[0.0], [1.0]]).double()
    at = integrate(euler(velocity), ends, uniform_grid(steps))[:, 0]
    return float(at[0]), float(at[1] - at[0])


def order_statistic(x, count, mean, deviation):
    """P-value of: x are maxima of `count` independent N(mean, deviation^2)."""
    return ks_1samp(x.numpy(), lambda v: norm.cdf(v, mean, deviation) ** count).pvalue


def at_dimension(d, rate, weight):
    """Parameters with which ReNO has this rate and this weight in dimension d."""
    unit = scaled(ReNOParams(rate=1.0, regularisation=1.0), d)
    return {"rate": rate / unit[0], "regularisation": weight / unit[1]}
