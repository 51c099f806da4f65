"""Meta flow maps: one network that draws from every posterior p(x1 | x_t = x) in one step.

X_{s,u}(x_bar; t, x) = x_bar + (u - s) v_{s,u}(x_bar; t, x) is the flow map, from inner time s to u,
of the flow that carries N(0, I) to p(x1 | x_t = x) (arXiv 2601.14430, section 2).  At t = 0 it is
an ordinary flow map of the data, and v_{t,t}(x; 0, 0) is the base velocity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from bench.core import glass
from bench.core.paths import Linear, expand
from bench.models.backbones import MLP, BackboneSpec, make_backbone
from bench.models.gaussian import GaussianModel
from bench.models.nets import ModulatedMLP

Parametrisation = Literal["gaussian", "raw", "diagonal"]


class Known(NamedTuple):
    """What a class-conditional network is told: label and guidance scale, (batch,) each.

    No label is the null class, no scale is 1; networks without classes hear neither.
    """

    label: Tensor | None = None
    scale: Tensor | None = None


UNTOLD = Known()


class MetaFlowMapNet(nn.Module):
    """A meta flow map over flat vectors of `dimension`, reshaped to `event_shape` outside.

    `parametrisation`: "raw" predicts v; "gaussian" predicts what the Gaussian model of the data
    leaves over; "diagonal" predicts n in v = A x + B x_bar + C n(x*, x_bar), whose regression
    target on s = u is the base velocity.  With `classes` > 0 it knows labels, see `given`.
    `network` other than "mlp" is a backbone (`bench.models.backbones`), which predicts v, "raw".
    """

    entrances: ClassVar = ("labelled",)

    def __init__(
        self,
        event_shape: tuple[int, ...],
        width: int = 384,
        depth: int = 3,
        parametrisation: Parametrisation = "gaussian",
        classes: int = 0,
        network: str = MLP,
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.interpolant = Linear()
        self.parametrisation: Parametrisation = parametrisation if network == MLP else "raw"
        self.backbone = network != MLP
        spec = BackboneSpec(event_shape, 2, 3, width, depth, classes)
        self.gaussian, self.net = _parts(network, spec)

    def velocity(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """v_{s,u}(x_bar; t, x), shape of x_bar, without a label."""
        return self.given(UNTOLD).velocity(x_bar, s, u, x, t)

    def jump(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """X_{s,u}(x_bar; t, x), without a label."""
        return self.given(UNTOLD).jump(x_bar, s, u, x, t)

    def given(self, known: Known) -> GivenMap:
        """The map with labels and guidance scales fixed."""
        return GivenMap(self, known)

    forward = velocity

    def labelled(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, known: Known
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x), shape of x_bar."""
        forms = {"gaussian": self._gaussian, "raw": self._raw, "diagonal": self._diagonal}
        form = forms[self.parametrisation]
        return form(x_bar.flatten(1), s, u, x.flatten(1), t, known).reshape(x_bar.shape)

    def _gaussian(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, known: Known
    ) -> Tensor:
        skip = self.gaussian.skip(x_bar, s, u, x, t)
        left = self._net(torch.cat([skip.inner, skip.context], -1), (s, u, t), known)
        return self.gaussian.to_data(skip.velocity + skip.scale * left)

    def _raw(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, known: Known
    ) -> Tensor:
        if self.backbone:
            both = torch.stack([x_bar, x], 1).reshape(len(x), 2, *self.event_shape)
            return self._net(both, (s, u, t), known).flatten(1)
        return self._net(torch.cat([x_bar, x], -1), (s, u, t), known)

    def _net(self, x: Tensor, times: tuple[Tensor, ...], known: Known) -> Tensor:
        out: Tensor = self.net(x, times, *known)
        return out

    def _diagonal(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, known: Known
    ) -> Tensor:
        star, k = glass.affine(x, t, x_bar, s)
        n = self._net(torch.cat([star.x, x_bar], -1), (s, u, star.t), known)
        return k.a[:, None] * x + k.b[:, None] * x_bar + k.c[:, None] * n


@dataclass(frozen=True)
class GivenMap:
    """A meta flow map whose labels and guidance scales are those of one batch."""

    net: MetaFlowMapNet
    known: Known

    def velocity(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """v_{s,u}(x_bar; t, x)."""
        return self.net.labelled(x_bar, s, u, x, t, self.known)

    def jump(self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """X_{s,u}(x_bar; t, x)."""
        return x_bar + expand(u - s, x_bar) * self.velocity(x_bar, s, u, x, t)


def _parts(network: str, spec: BackboneSpec) -> tuple[GaussianModel, nn.Module]:
    """The Gaussian model that is known beforehand, of no dimension for a backbone; the network."""
    dimension = int(torch.Size(spec.event_shape).numel())
    if network != MLP:
        return GaussianModel(0), make_backbone(network, spec)
    sizes = spec.parts * dimension, dimension, spec.times, spec.width, spec.depth
    return GaussianModel(dimension), ModulatedMLP(*sizes, classes=spec.classes)


class FlowNet(nn.Module):
    """A velocity b_t(x) with the Gaussian model of the data as skip: the map's t = 0 slice.

    `network` other than "mlp" is a backbone, which predicts the velocity itself.
    """

    entrances: ClassVar = ("labelled",)

    def __init__(
        self,
        event_shape: tuple[int, ...],
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
        network: str = MLP,
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.interpolant = Linear()
        self.backbone = network != MLP
        spec = BackboneSpec(event_shape, 1, 1, width, depth, classes)
        self.gaussian, self.net = _parts(network, spec)

    def velocity(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        """b_t(x), shape of x, without a label; `condition` is ignored, see `given`."""
        return self.labelled(x, t, UNTOLD)

    def given(self, known: Known) -> GivenFlow:
        """The velocity with labels and guidance scales fixed."""
        return GivenFlow(self, known)

    def labelled(self, x: Tensor, t: Tensor, known: Known) -> Tensor:
        """b_t(x), shape of x."""
        if self.backbone:
            out: Tensor = self.net(x[:, None], (t,), *known)
            return out
        flat, zero = x.flatten(1), torch.zeros_like(t)
        skip = self.gaussian.skip(flat, t, t, torch.zeros_like(flat), zero)
        left: Tensor = self.net(skip.inner, (t,), *known)
        v = self.gaussian.to_data(skip.velocity + skip.scale * left)
        return v.reshape(x.shape)

    forward = velocity


@dataclass(frozen=True)
class GivenFlow:
    """A flow whose labels and guidance scales are those of one batch."""

    net: FlowNet
    known: Known

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """b_t(x)."""
        return self.net.labelled(x, t, self.known)


class BaseVelocity(nn.Module):
    """The flow inside a map, v_{t,t}(x; 0, 0)."""

    def __init__(self, net: MetaFlowMapNet) -> None:
        super().__init__()
        self.net, self.event_shape, self.interpolant = net, net.event_shape, net.interpolant

    def velocity(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        """b_t(x), shape of x, without a label."""
        return self.labelled(x, t, UNTOLD)

    def labelled(self, x: Tensor, t: Tensor, known: Known) -> Tensor:
        """b_t(x), shape of x."""
        nothing = torch.zeros_like(x), torch.zeros_like(t)
        return self.net.labelled(x, t, t, *nothing, known)

    forward = velocity
