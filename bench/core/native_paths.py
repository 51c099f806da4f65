"""Networks of other people in linear coordinates: their own time, scale and output.

A network is trained on x = alpha e + beta x1 with e ~ N(0, I), whatever its alpha and beta.  With

    t = beta / (alpha + beta)        y = x / (alpha + beta) = (1 - t) e + t x1

every such path is the linear interpolant, so that nothing above the network needs to know of it.
DDIM (eta = 0), EulerDiscrete and FlowMatchEuler are Euler's method for dy/dt = b in these
coordinates, on their own times (DDIM: arXiv 2010.02502, Eq. 12).

A path says three things of a linear time t (batch,): the network's own time, the scale
alpha + beta, and how the network's output becomes b = E[x1 - e | y].  Times are worked out in
float64 and given back in float32 at least, whatever the state's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from bench.core.paths import expand, safe

Output = Literal["flow", "epsilon", "v", "sample"]
"""What a network predicts: e - x1, e, beta e - alpha x1 (at alpha^2 + beta^2 = 1), or x1."""

WHOLE = 1e-3
"""A time this near to a whole number is it: a float32 t knows its integer to about 1e-4."""


class NativePath(Protocol):
    """Where a network lives, seen from the linear interpolant."""

    def time(self, t: Tensor) -> Tensor:
        """What the network is told for a linear time t (batch,)."""
        ...

    def scale(self, t: Tensor) -> Tensor:
        """alpha + beta (batch,): the network's state is scale * y."""
        ...

    def velocity(self, output: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """b_t(y) from the network's output at scale * y, both (batch, *event)."""
        ...


# -- what an output says of b ----------------------------------------------------------------------


def norm(t: Tensor, data: float = 1.0) -> Tensor:
    """sqrt((1 - t)^2 + data^2 t^2): the deviation of y where that of the data is `data`."""
    return ((1 - t) ** 2 + (data * t) ** 2).sqrt()


def _from_flow(output: Tensor, _y: Tensor, _t: Tensor) -> Tensor:
    return -output


def _from_epsilon(output: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """x1 = (y - (1 - t) e) / t, so that b = (y - e) / t."""
    return (y - output) / expand(safe(t), y)


def _from_sample(output: Tensor, y: Tensor, t: Tensor) -> Tensor:
    return (output - y) / expand(safe(1 - t), y)


def _from_v(output: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """x1 = beta x - alpha v and e = alpha x + beta v; regular at both ends."""
    return preconditioned(-output, y, t, 1.0)


def preconditioned(output: Tensor, y: Tensor, t: Tensor, data: float) -> Tensor:
    """b = ((data^2 t - (1 - t)) y / m + data F) / m with m = norm(t, data).

    From D = c_skip x + c_out F of arXiv 2206.00364, Table 1, with sigma = (1 - t) / t; the factors
    of 1 / t and 1 / (1 - t) cancel.
    """
    m = norm(t, data)
    return expand((data**2 * t - (1 - t)) / m**2, y) * y + expand(data / m, y) * output


OUTPUTS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "flow": _from_flow,
    "epsilon": _from_epsilon,
    "v": _from_v,
    "sample": _from_sample,
}
"""(output, y, t) -> b_t(y)."""


# -- the paths -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FlowPath:
    """Flow matching, where alpha + beta = 1 already; a shift of the times is no part of it.

    unit: the network is told `unit` times 1 - t (from_noise: 1 at noise, as SD3 and FLUX have it)
    or t.
    """

    unit: float = 1.0
    from_noise: bool = True

    def time(self, t: Tensor) -> Tensor:
        return _single((1 - t.double() if self.from_noise else t.double()) * self.unit)

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def velocity(self, output: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return -output if self.from_noise else output


Between = Literal["time", "sigma", "log-sigma"]
"""In which coordinate a table of whole times is continued linearly between them."""

COORDINATES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "time": lambda t: t,
    "sigma": lambda t: 1 - 1 / t,
    "log-sigma": lambda t: t.log() - (-t).log1p(),
}
"""Of a linear time: rising functions of t, minus sigma and minus log sigma up to a constant."""


class DiscretePath:
    """A variance preserving path known at whole times 0, ..., N - 1 by its alphas_cumprod.

    beta^2 = alphas_cumprod and alpha^2 = 1 - alphas_cumprod at those times, and everywhere
    alpha + beta = 1 / norm(t).  Between two whole times the time is linear in t, sigma or
    log sigma (`between`); before the first and after the last it stays.  Noisier than any state
    that the network knows, b is that at the first time: epsilon says nothing of x1 there.
    """

    def __init__(
        self, alphas_cumprod: Sequence[float] | Tensor, output: Output, between: Between = "time"
    ) -> None:
        self.output, self.between = output, between
        signal = torch.as_tensor(alphas_cumprod, dtype=torch.float64, device="cpu")
        self.times = linear_time(signal.sqrt(), (1 - signal).sqrt())
        """(N,) linear times of the whole times, falling."""
        self._on: dict[torch.device, Tensor] = {}

    def time(self, t: Tensor) -> Tensor:
        rising = self._coordinates(t.device)
        inside = t.double().clamp(float(self.times[-1]), float(self.times[0]))
        found = COORDINATES[self.between](inside)
        left = (torch.searchsorted(rising, found, right=True) - 1).clamp(0, len(rising) - 2)
        share = (found - rising[left]) / (rising[left + 1] - rising[left])
        time = len(rising) - 1 - (left + share)
        whole = time.round()
        return _single(torch.where((time - whole).abs() < WHOLE, whole, time))

    def scale(self, t: Tensor) -> Tensor:
        return 1 / norm(t)

    def velocity(self, output: Tensor, y: Tensor, t: Tensor) -> Tensor:
        known = t.clamp(min=float(self.times[-1]))
        return OUTPUTS[self.output](output, y * expand(norm(known) / norm(t), y), known)

    def _coordinates(self, device: torch.device) -> Tensor:
        """The coordinate of every whole time, rising; made once per device."""
        if device not in self._on:
            self._on[device] = COORDINATES[self.between](self.times.flip(0)).to(device)
        return self._on[device]


@dataclass(frozen=True)
class KarrasPath:
    """sigma = alpha / beta = (1 - t) / t with the preconditioning of arXiv 2206.00364, Table 1.

    The network is given c_in x with c_in = 1 / sqrt(sigma^2 + data^2), is told log(sigma) / 4, and
    gives F with D = c_skip x + c_out F.  data: the deviation of the data.  sign: -1 where the
    network gives -F.
    """

    data: float = 0.5
    sign: float = 1.0

    def time(self, t: Tensor) -> Tensor:
        return _single((safe(1 - t.double()) / safe(t.double())).log() / 4)

    def scale(self, t: Tensor) -> Tensor:
        return 1 / norm(t, self.data)

    def velocity(self, output: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return preconditioned(self.sign * output, y, t, self.data)


def linear_time(beta: Tensor, alpha: Tensor) -> Tensor:
    """t = beta / (alpha + beta)."""
    return beta / (alpha + beta)


def _single(time: Tensor) -> Tensor:
    """What networks embed: float32 holds every time to a ten-thousandth of a step."""
    return time.float()
