"""One Gaussian whose posterior is a quadrature: expectations given x_t without sampling."""

import math

import numpy as np
import torch

from bench.core import quadratic
from bench.models.mixture import Mixture

DOUBLE = torch.float64
MEAN, VARIANCE = 0.3, 0.7
NODES, WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(120))
WEIGHTS = WEIGHTS / math.sqrt(2 * math.pi)
REWARDS = {
    "linear": quadratic.linear(torch.tensor([1.7], dtype=DOUBLE)),
    "well": quadratic.well(torch.tensor([1.0], dtype=DOUBLE), 3.0),
}


def gaussian_world():
    mixture = Mixture(
        torch.ones(1, dtype=DOUBLE),
        torch.tensor([[MEAN]], dtype=DOUBLE),
        torch.tensor([[[VARIANCE]]], dtype=DOUBLE),
    )
    t = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=DOUBLE)
    x = torch.tensor([[-1.0], [0.5], [1.2], [-0.4]], dtype=DOUBLE)
    return mixture, x, t


def posterior_draws(mixture, x, t):
    """All quadrature nodes of p(x1 | x_t = x): (node, batch, 1), differentiable in x."""
    post = mixture.posterior(x, t)
    return post.mean[:, 0] + NODES[:, None, None] * post.factor[:, 0, :, 0]


def expectation(values):
    """Over the nodes, the first dimension."""
    return torch.einsum("n,nbd->bd", WEIGHTS, values)
