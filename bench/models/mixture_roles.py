"""An exact mixture in the roles of a task: its flow, its posterior sampler, its oracle."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.noise import uniform
from bench.core.posterior import draws_of
from bench.core.protocols import Condition, Noise
from bench.core.quadratic import Quadratic
from bench.models.mixture import Mixture


class MixtureFlow:
    """The closed-form velocity of a mixture."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.interpolant = mixture, mixture.interpolant
        self.event_shape = (mixture.dimension,)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x)."""
        return self.mixture.velocity(x, t)


class MixturePosterior:
    """Exact draws of p(x1 | x_t = x): a component, then a Gaussian.

    A drawn component has no derivative in x, so gradients do not pass.
    """

    pathwise = False
    rows_per_draw = 1

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture

    @torch.no_grad()
    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, d)."""
        z = draws_of(noise, "posterior", n, (self.mixture.dimension,))
        u = uniform(draws_of(noise, "component", n, ()))
        return self.mixture.posterior_draws(x, t, u, z)


class MixtureOracle:
    """The closed-form answer for one quadratic reward."""

    def __init__(self, mixture: Mixture, reward: Quadratic) -> None:
        self.mixture, self.reward = mixture, reward
        self.tilted, self.log_z = mixture.tilted(reward)

    def shift(self, x: Tensor, t: Tensor) -> Tensor:
        """D^r_t(x) - D_t(x)."""
        return self.mixture.shift(x, t, self.reward)

    def value(self, x: Tensor, t: Tensor) -> Tensor:
        """V_t(x)."""
        return self.mixture.value(x, t, self.reward)

    def draw(self, z: Tensor, extra: Tensor) -> Tensor:
        """I.i.d. draws of the tilted mixture from normals z (n, d) and extra (n,)."""
        return self.tilted.draws(uniform(extra), z)
