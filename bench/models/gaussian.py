"""The Gaussian model of a data set: the exact meta flow map of N(mu, Sigma), used as a skip.

A network that predicts what is left over the Gaussian answer starts from the right mean, spread
and time dependence in every direction of data space; its output is scaled by the posterior's
spread, so the limit t -> 1 (the posterior collapses on x) is built in, and the dependence on the
context vanishes like t at t -> 0, as the true one does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

MIN_SPREAD = 1e-3
"""Floor of the posterior's standard deviation at t -> 1, in units of the data."""


class Skip(NamedTuple):
    """What the Gaussian model says about v_{s,u}(x_bar; t, x); all in the basis of Sigma.

    velocity, scale: the Gaussian velocity and the scale of what it misses, (batch, d).
    inner, context: x_bar and x standardised for a network, (batch, d).
    """

    velocity: Tensor
    scale: Tensor
    inner: Tensor
    context: Tensor


class GaussianModel(nn.Module):
    """N(mu, U diag(lambda) U') with its two-time posterior flow map, linear interpolant.

    Buffers only; they are saved with the weights.  `floor` bounds the eigenvalues from below, so
    that constant pixels keep a small spread.
    """

    mean: Tensor
    basis: Tensor
    eigenvalues: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("basis", torch.eye(dimension))
        self.register_buffer("eigenvalues", torch.ones(dimension))

    def fit(self, data: Tensor, floor: float = 1e-3) -> None:
        """Estimate mu and Sigma from data (n, d); a model of no dimension learns nothing."""
        if not len(self.mean):
            return
        wide = data.double()
        covariance = torch.cov(wide.T).reshape(wide.shape[1], wide.shape[1])
        self.set(wide.mean(0), covariance, floor)

    def set(self, mean: Tensor, covariance: Tensor, floor: float = 1e-3) -> None:
        """Take mu (d,) and Sigma (d, d) as given."""
        eigenvalues, basis = torch.linalg.eigh(covariance)
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.eigenvalues.copy_(eigenvalues.clamp(min=floor))

    def skip(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Skip:
        """Per direction with variance l: posterior N(m, tau^2) of the context, then its flow map.

        m = mu + t l / p (x - t mu), tau^2 = l (1-t)^2 / p, p = (1-t)^2 + t^2 l;
        X_{s,u} = u m + (x_bar - s m) sigma_u / sigma_s, sigma_s^2 = (1-s)^2 + s^2 tau^2, so
        v = m + k (x_bar - s m) with k regular at u = s.
        """
        s, u, t = s[:, None], u[:, None], t[:, None]
        variance, mean = self.eigenvalues, self.mean @ self.basis
        marginal = (1 - t) ** 2 + t**2 * variance
        context = t * variance.sqrt() / marginal * (x @ self.basis - t * mean)
        m = mean + variance.sqrt() * context
        tau2 = (variance * (1 - t) ** 2 / marginal).clamp(min=MIN_SPREAD**2)
        sigma_s = ((1 - s) ** 2 + s**2 * tau2).sqrt()
        sigma_u = ((1 - u) ** 2 + u**2 * tau2).sqrt()
        k = ((u + s) * tau2 - (2 - u - s)) / ((sigma_u + sigma_s) * sigma_s)
        residual = x_bar @ self.basis - s * m
        return Skip(m + k * residual, tau2.sqrt() / sigma_s, residual / sigma_s, context)

    def to_data(self, coefficients: Tensor) -> Tensor:
        """From the basis of Sigma back to data space."""
        return coefficients @ self.basis.T
