"""A short recipe, and a Gaussian world whose map is known."""

import torch

from bench.core.paths import Linear
from bench.models.meta_flow_map import MetaFlowMapNet
from bench.models.mixture import Mixture
from bench.training.draws import Draw
from bench.training.recipes import Recipe


def small(**changes) -> Recipe:
    values = {"flow_steps": 30, "map_steps": 30, "batch": 32, "map_width": 16, "flow_width": 16}
    return Recipe(**{**values, "depth": 1, "classifier_steps": 20, **changes})


def gaussian_world(d=3):
    g = torch.Generator().manual_seed(0)
    root = torch.randn(d, d, generator=g, dtype=torch.float64)
    mean = torch.randn(1, d, generator=g, dtype=torch.float64)
    covariance = (root @ root.T / d)[None]
    return Mixture(torch.ones(1).double(), mean, covariance)


def gaussian_map(mixture) -> MetaFlowMapNet:
    """A map whose Gaussian skip is the truth and whose network is zero."""
    net = MetaFlowMapNet((mixture.dimension,), width=8, depth=1).double()
    values, basis = torch.linalg.eigh(mixture.covariances[0])
    net.gaussian.mean.copy_(mixture.means[0])
    net.gaussian.basis.copy_(basis)
    net.gaussian.eigenvalues.copy_(values)
    return net


def draw_of(mixture, n=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x1 = mixture.sample(n, g)
    double = torch.float64
    t, split = torch.rand(2, n, generator=g, dtype=double)
    s, u = torch.rand(2, n, generator=g, dtype=double).sort(0).values
    noise, other = torch.randn(2, *x1.shape, generator=g, dtype=double)
    return Draw(x1, Linear().noised(x1, other, t), t, noise, s, u, split)
