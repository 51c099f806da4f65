"""Gaussian mixtures with every closed form that alignment needs: the exact oracle.

p = sum_k w_k N(mu_k, Sigma_k) under x_t = alpha x0 + beta x1.  Velocity, score, posterior, value
function, its gradient, the tilted law and exact draws, for any reward that is quadratic
(`bench.core.quadratic`).  Everything is batched and differentiable, and accurate to rounding in
float64 at both ends of the time axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.integrate import same_everywhere
from bench.core.paths import Interpolant, Linear, expand
from bench.core.quadratic import Quadratic, Tilt, tilt_gaussian


@dataclass(frozen=True)
class Posterior:
    """p(x1 | x_t = x) = sum_k gamma_k N(m_k, F_k F_k').

    Shapes: log_gamma (batch, K), mean (batch, K, d), factor (batch or 1, K, d, d).
    """

    log_gamma: Tensor
    mean: Tensor
    factor: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.factor @ self.factor.mT


class Mixture:
    """A Gaussian mixture and its interpolant.

    Args:
        weights: (K,), positive; normalised here.
        means: (K, d).
        covariances: (K, d, d), symmetric positive semi-definite.
        interpolant: the schedule that noises the mixture.
    """

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
        interpolant: Interpolant | None = None,
    ) -> None:
        self.interpolant = interpolant or Linear()
        self.log_weights = weights.log() - weights.sum().log()
        self.means, self.covariances = means, covariances
        eigenvalues, self.basis = torch.linalg.eigh(covariances)
        self.eigenvalues = eigenvalues.clamp(min=0)

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    @property
    def weights(self) -> Tensor:
        return self.log_weights.exp()

    def to(self, like: Tensor) -> Mixture:
        """The same mixture in the dtype and on the device of `like`."""
        return Mixture(
            self.weights.to(like), self.means.to(like), self.covariances.to(like), self.interpolant
        )

    def mean(self) -> Tensor:
        """E[x1], (d,)."""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """Cov[x1], (d, d)."""
        centred = self.means - self.mean()
        within = torch.einsum("k,kij->ij", self.weights, self.covariances)
        return within + torch.einsum("k,ki,kj->ij", self.weights, centred, centred)

    # -- the noised marginal ---------------------------------------------------------------------

    def _standardise(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log(w_k N(x; beta mu_k, P_k)), x - beta mu_k in the basis of Sigma_k, and P_k's spectrum.

        P_k = alpha^2 I + beta^2 Sigma_k shares the eigenvectors of Sigma_k.
        """
        alpha, beta = self.interpolant.alpha(t), self.interpolant.beta(t)
        residual = x[:, None] - beta[:, None, None] * self.means
        rotated = torch.einsum("kij,bki->bkj", self.basis, residual)
        spectrum = alpha[:, None, None] ** 2 + beta[:, None, None] ** 2 * self.eigenvalues
        mahalanobis = (rotated**2 / spectrum).sum(-1)
        log_norm = spectrum.log().sum(-1) + self.dimension * torch.log(
            torch.tensor(2 * torch.pi, dtype=x.dtype)
        )
        return self.log_weights - 0.5 * (mahalanobis + log_norm), rotated, spectrum

    def log_prob(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """log p_t(x), (batch,); the data law when t is None."""
        time = torch.ones(len(x), dtype=x.dtype, device=x.device) if t is None else t
        return self._standardise(x, time)[0].logsumexp(-1)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """b_t(x) without any division by alpha, valid at t = 0 and t = 1."""
        log_joint, rotated, spectrum = self._standardise(x, t)
        gamma = log_joint.softmax(-1)
        i = self.interpolant
        own = expand(i.d_alpha(t) * i.alpha(t), rotated)
        data = expand(i.d_beta(t) * i.beta(t), rotated) * self.eigenvalues
        moved = torch.einsum("kij,bkj->bki", self.basis, (own + data) / spectrum * rotated)
        per_component = i.d_beta(t)[:, None, None] * self.means + moved
        return (gamma[..., None] * per_component).sum(1)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x) = -sum_k gamma_k P_k^-1 (x - beta mu_k)."""
        log_joint, rotated, spectrum = self._standardise(x, t)
        pull = -torch.einsum("kij,bkj->bki", self.basis, rotated / spectrum)
        return (log_joint.softmax(-1)[..., None] * pull).sum(1)

    # -- the posterior ---------------------------------------------------------------------------

    def posterior(self, x: Tensor, t: Tensor) -> Posterior:
        """p(x1 | x_t = x); covariances do not depend on x and are shared when t is."""
        log_joint, rotated, spectrum = self._standardise(x, t)
        beta = expand(self.interpolant.beta(t), rotated)
        gain = beta * self.eigenvalues / spectrum
        mean = self.means + torch.einsum("kij,bkj->bki", self.basis, gain * rotated)
        # One matrix serves the whole batch when all times agree, which is the usual case.
        shared = slice(0, 1) if same_everywhere(t) else slice(None)
        alpha = self.interpolant.alpha(t)[shared, None, None]
        spread = (alpha**2 * self.eigenvalues / spectrum[shared]).sqrt()
        return Posterior(log_joint.log_softmax(-1), mean, self.basis * spread[..., None, :])

    def denoiser(self, x: Tensor, t: Tensor) -> Tensor:
        """D_t(x) = E[x1 | x_t = x]."""
        post = self.posterior(x, t)
        return (post.log_gamma.exp()[..., None] * post.mean).sum(1)

    def posterior_draws(self, x: Tensor, t: Tensor, u: Tensor, z: Tensor) -> Tensor:
        """Exact draws of p(x1 | x_t = x): u uniform (n, batch), z normal (n, batch, d)."""
        post = self.posterior(x, t)
        k = _categorical(post.log_gamma, u)
        rows = torch.arange(len(x), device=x.device).expand_as(k)
        return post.mean[rows, k] + _moved(post.factor, z, k)

    def draws(self, u: Tensor, z: Tensor) -> Tensor:
        """Exact i.i.d. draws of the mixture: u uniform (n,), z normal (n, d)."""
        k = _categorical(self.log_weights.expand(len(u), -1), u[None])[0]
        factor = self.basis[k] * self.eigenvalues[k].sqrt()[:, None, :]
        drawn: Tensor = self.means[k] + (factor @ z[..., None]).squeeze(-1)
        return drawn

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact draws, (n, d)."""
        dtype = self.means.dtype
        u = torch.rand(n, generator=generator, dtype=dtype)
        return self.draws(u, torch.randn(n, self.dimension, generator=generator, dtype=dtype))

    # -- the tilted law --------------------------------------------------------------------------

    def tilted(self, reward: Quadratic) -> tuple[Mixture, float]:
        """The mixture p e^r / Z and log Z."""
        tilt = tilt_gaussian(self.means, self.covariances, reward)
        log_joint = self.log_weights + tilt.zeta
        symmetric = 0.5 * (tilt.covariance + tilt.covariance.mT)
        mixture = Mixture(log_joint.softmax(-1), tilt.mean, symmetric, self.interpolant)
        return mixture, float(log_joint.logsumexp(-1)) + reward.c0

    def _tilted_posterior(
        self, x: Tensor, t: Tensor, reward: Quadratic
    ) -> tuple[Posterior, Tilt, Tensor]:
        """Posterior, its tilt per component, and the unnormalised log gamma'."""
        post = self.posterior(x, t)
        tilt = tilt_gaussian(post.mean, post.covariance, reward)
        return post, tilt, post.log_gamma + tilt.zeta

    def value(self, x: Tensor, t: Tensor, reward: Quadratic) -> Tensor:
        """V_t(x) = log E[e^r(x1) | x_t = x], (batch,)."""
        return self._tilted_posterior(x, t, reward)[2].logsumexp(-1) + reward.c0

    def shift(self, x: Tensor, t: Tensor, reward: Quadratic) -> Tensor:
        """D^r_t(x) - D_t(x), which drives every steered drift."""
        post, tilt, log_gamma = self._tilted_posterior(x, t, reward)
        tilted = (log_gamma.softmax(-1)[..., None] * tilt.mean).sum(1)
        return tilted - (post.log_gamma.exp()[..., None] * post.mean).sum(1)

    def value_gradient(self, x: Tensor, t: Tensor, reward: Quadratic) -> Tensor:
        """grad V_t(x) in closed form, with no division by alpha."""
        _, rotated, spectrum = self._standardise(x, t)
        post, tilt, log_gamma = self._tilted_posterior(x, t, reward)
        beta = expand(self.interpolant.beta(t), rotated)
        gain = beta * self.eigenvalues / spectrum
        inward = torch.einsum("kij,bki->bkj", self.basis, tilt.d_mean)
        d_zeta = torch.einsum("kij,bkj->bki", self.basis, gain * inward)
        pull = -torch.einsum("kij,bkj->bki", self.basis, rotated / spectrum)
        tilted = log_gamma.softmax(-1)[..., None] * (pull + d_zeta)
        return (tilted - post.log_gamma.exp()[..., None] * pull).sum(1)


def _categorical(log_p: Tensor, u: Tensor) -> Tensor:
    """Inverse-CDF draws from log_p (batch, K) with uniforms u (n, batch) -> indices (n, batch)."""
    cumulative = log_p.exp().cumsum(-1)
    total = cumulative[:, -1]
    return (u[..., None] * total[:, None] > cumulative).sum(-1).clamp(max=log_p.shape[-1] - 1)


def _moved(factor: Tensor, z: Tensor, k: Tensor) -> Tensor:
    """F_k z with factors (batch or 1, K, d, d), z (n, batch, d) and k (n, batch)."""
    if factor.shape[1] <= factor.shape[-1]:
        # The products with all K matrices are less to hold than one gathered matrix per draw.
        every = torch.einsum("bkij,nbj->nbki", factor, z)
        return every.take_along_dim(k[..., None, None], dim=-2).squeeze(-2)
    rows = torch.arange(z.shape[1], device=z.device).expand_as(k)
    chosen = factor.expand(z.shape[1], *factor.shape[1:])[rows, k]
    return (chosen @ z[..., None]).squeeze(-1)


def paper_mixture(dtype: torch.dtype = torch.float64) -> Mixture:
    """The three-component mixture of arXiv 2601.14430, section 7.1.1."""
    means = torch.tensor([[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]], dtype=dtype)
    covariances = 0.5 * torch.eye(2, dtype=dtype).expand(3, 2, 2)
    return Mixture(torch.full((3,), 1 / 3, dtype=dtype), means, covariances.clone())


def random_mixture(dimension: int, components: int, seed: int) -> Mixture:
    """An anisotropic mixture in any dimension, in float64.

    Means lie on a sphere whose radius keeps components apart; covariances have random axes and
    eigenvalues in [0.1, 1].
    """
    g, double = torch.Generator().manual_seed(seed), torch.float64
    means = torch.randn(components, dimension, generator=g, dtype=double)
    means = 3.0 * means / means.norm(dim=-1, keepdim=True)
    axes = torch.linalg.qr(
        torch.randn(components, dimension, dimension, generator=g, dtype=double)
    ).Q
    eigenvalues = 0.1 + 0.9 * torch.rand(components, dimension, generator=g, dtype=double)
    covariances = axes @ (eigenvalues[..., None] * axes.mT)
    weights = 0.5 + torch.rand(components, generator=g, dtype=double)
    return Mixture(weights, means, 0.5 * (covariances + covariances.mT))
