"""Gaussians and mixtures on which the drifts of steering are known in closed form.

The flow, the posterior and the flow map of a Gaussian are affine, so that every method has a law
or a trajectory that can be written down.
"""

import torch

from bench.core import quadratic
from bench.core.quadratic import Quadratic
from bench.models.mixture import Mixture


def gaussian(mean, covariance, interpolant=None):
    one = torch.ones(1).double()
    return Mixture(one, mean[None].double(), covariance[None].double(), interpolant)


MEAN = torch.tensor([0.7, -0.4]).double()
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]]).double()
BOWL = Quadratic(
    torch.tensor([1.0, 0.5]).double(), torch.tensor([[1.2, -0.4], [-0.4, 0.6]]).double()
)

M, V, ETA, CURVATURE = 0.7, 0.6, 0.9, 0.5


def jacobian(mixture, x, t):
    """J_D = (beta / alpha^2) Cov(x1 | x_t = x), from the posterior's components."""
    post, i = mixture.posterior(x, t), mixture.interpolant
    gamma = post.log_gamma.exp()
    second = torch.einsum("bki,bkj->bkij", post.mean, post.mean) + post.covariance
    mean = mixture.denoiser(x, t)
    cov = torch.einsum("bk,bkij->bij", gamma, second) - mean[:, :, None] * mean[:, None, :]
    return (i.beta(t) / i.alpha(t) ** 2)[:, None, None] * cov


def closed_form(mixture, reward, x, t):
    """grad_x r(D_t(x)) = J_D' (eta - Lambda D)."""
    pull = reward.eta - mixture.denoiser(x, t) @ reward.Lambda
    return torch.einsum("bji,bj->bi", jacobian(mixture, x, t), pull)


def states(n, dimension, t, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimension, generator=g).double(), torch.full((n,), t).double()


REWARDS = {
    "linear": quadratic.linear(torch.tensor([1.0, -0.7, 0.4]).double()),
    "quadratic": quadratic.well(torch.tensor([1.0, 0.0, -1.0]).double(), 0.8),
    "inverse": quadratic.observation(
        torch.tensor([[1.2, -0.8, 0.3]]).double(),
        torch.tensor([-1.0]).double(),
        torch.tensor([[0.09]]).double(),
    ),
}
