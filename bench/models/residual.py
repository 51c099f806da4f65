"""A closed-form flow that can be trained: the exact velocity plus a residual, zero at first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.core.protocols import Condition, Flow
from bench.models.gaussian import GaussianModel
from bench.models.nets import ModulatedMLP

RESIDUAL_SEED = 0
"""Of the residual's weights, so that two residuals of the same flow are the same."""


class ResidualFlow(nn.Module):
    """v = b + (D^r - D) / (1 - t), the denoiser's shift being learned; equal to b at the start.

    The shift of a tilted law is the posterior's covariance times grad_x1 of the value, so in every
    direction of data space, with variance l, the net is scaled by

        (D^r - D) / (1 - t) = sqrt(l) (1 - t) / p * net,    p = (1 - t)^2 + t^2 l,

    which is exact (with a constant net) for a Gaussian and a linear reward, and regular at both
    ends of the time axis.  Linear interpolant; x is (batch, dimension).
    """

    def __init__(
        self, base: Flow, mean: Tensor, covariance: Tensor, width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.base, self.event_shape, self.interpolant = base, base.event_shape, base.interpolant
        dimension = len(mean)
        self.gaussian = GaussianModel(dimension)
        self.gaussian.set(mean, covariance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RESIDUAL_SEED)
            self.net = ModulatedMLP(dimension, dimension, times=1, width=width, depth=depth)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) plus the residual, shape of x."""
        skip = self.gaussian.skip(x, t, t, torch.zeros_like(x), torch.zeros_like(t))
        # skip.scale = sqrt(l / p) is the scale of a velocity; (1 - t) / sqrt(p) closes it.
        closing = (1 - t)[:, None] * skip.scale / self.gaussian.eigenvalues.sqrt()
        shift: Tensor = self.net(skip.inner, (t,))
        return self.base.velocity(x, t, condition) + self.gaussian.to_data(
            skip.scale * closing * shift
        )

    forward = velocity
