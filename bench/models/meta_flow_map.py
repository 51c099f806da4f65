"""Meta flow maps: one network that draws from every posterior p(x1 | x_t = x) in one step.

X_{s,u}(x_bar; t, x) = x_bar + (u - s) v_{s,u}(x_bar; t, x) is the flow map, from inner time s to u,
of the flow that carries N(0, I) to p(x1 | x_t = x) (arXiv 2601.14430, section 2).  At t = 0 it is
an ordinary flow map of the data, and v_{t,t}(x; 0, 0) is the base velocity.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bench.core import glass
from bench.core.interpolant import Linear, expand
from bench.models.gaussian import GaussianModel
from bench.models.nets import ModulatedMLP

Parametrisation = Literal["gaussian", "raw", "diagonal"]


class MetaFlowMapNet(nn.Module):
    """A meta flow map over flat vectors of `dimension`, reshaped to `event_shape` outside.

    `parametrisation`: "raw" predicts v; "gaussian" predicts what the Gaussian model of the data
    leaves over; "diagonal" predicts n in v = A x + B x_bar + C n(x*, x_bar), whose regression
    target on s = u is the base velocity.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        width: int = 384,
        depth: int = 3,
        parametrisation: Parametrisation = "gaussian",
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.interpolant = Linear()
        self.parametrisation: Parametrisation = parametrisation
        dimension = int(torch.Size(event_shape).numel())
        self.gaussian = GaussianModel(dimension)
        self.net = ModulatedMLP(2 * dimension, dimension, times=3, width=width, depth=depth)

    def velocity(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """v_{s,u}(x_bar; t, x), shape of x_bar."""
        flat_bar, flat_x = x_bar.flatten(1), x.flatten(1)
        forms = {"gaussian": self._gaussian, "raw": self._raw, "diagonal": self._diagonal}
        return forms[self.parametrisation](flat_bar, s, u, flat_x, t).reshape(x_bar.shape)

    def jump(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """X_{s,u}(x_bar; t, x)."""
        return x_bar + expand(u - s, x_bar) * self.velocity(x_bar, s, u, x, t)

    forward = velocity

    def _gaussian(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        skip = self.gaussian.skip(x_bar, s, u, x, t)
        left: Tensor = self.net(torch.cat([skip.inner, skip.context], -1), (s, u, t))
        return self.gaussian.to_data(skip.velocity + skip.scale * left)

    def _raw(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.net(torch.cat([x_bar, x], -1), (s, u, t))
        return out

    def _diagonal(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        star, k = glass.affine(x, t, x_bar, s)
        n: Tensor = self.net(torch.cat([star.x, x_bar], -1), (s, u, star.t))
        return k.a[:, None] * x + k.b[:, None] * x_bar + k.c[:, None] * n


class FlowNet(nn.Module):
    """A velocity b_t(x) with the Gaussian model of the data as skip: the map's t = 0 slice."""

    def __init__(self, event_shape: tuple[int, ...], width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.interpolant = Linear()
        dimension = int(torch.Size(event_shape).numel())
        self.gaussian = GaussianModel(dimension)
        self.net = ModulatedMLP(dimension, dimension, times=1, width=width, depth=depth)

    def velocity(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        """b_t(x), shape of x; `condition` is ignored, the model is unconditional."""
        flat, zero = x.flatten(1), torch.zeros_like(t)
        skip = self.gaussian.skip(flat, t, t, torch.zeros_like(flat), zero)
        left: Tensor = self.net(skip.inner, (t,))
        v = self.gaussian.to_data(skip.velocity + skip.scale * left)
        return v.reshape(x.shape)

    forward = velocity
