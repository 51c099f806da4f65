"""Training tuples of a meta flow map: data, a context, an inner state, and their times.

With x1 ~ data, the context x = (1-t) e_c + t x1 and the inner state x_bar_s = (1-s) e + s x1 share
x1 and nothing else; this is what makes the regression conditional on the context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.core.paths import Linear


@dataclass(frozen=True)
class Draw:
    """One training tuple: data x1, context (x, t), inner noise and times, split in [0, 1].

    shift: what model guidance adds to x1 - noise; None adds nothing.
    """

    x1: Tensor
    x: Tensor
    t: Tensor
    noise: Tensor
    s: Tensor
    u: Tensor
    split: Tensor
    shift: Tensor | None = None

    @property
    def data_velocity(self) -> Tensor:
        """x1 - noise, a draw of the posterior flow's velocity at (x_bar, s), guided by `shift`."""
        plain = self.x1 - self.noise
        return plain if self.shift is None else plain + self.shift

    def narrowed(self, width: float) -> Draw:
        """The same tuple with u - s multiplied by `width` in 0 ... 1, about its middle."""
        middle, half = (self.s + self.u) / 2, width * (self.u - self.s) / 2
        return replace(self, s=middle - half, u=middle + half)

    @property
    def x_bar(self) -> Tensor:
        """The inner state (1-s) noise + s x1."""
        return Linear().noised(self.x1, self.noise, self.s)


def sample_context_times(
    n: int, generator: torch.Generator, power: float = 2.0, zeros: float = 0.1
) -> Tensor:
    """t = U^power with probability 1 - zeros and 0 otherwise; the paper's power is 2.

    The zeros keep the unconditional map; a power above 1 favours early times.
    """
    u = torch.rand(n, generator=generator)
    return u**power * (torch.rand(n, generator=generator) < 1 - zeros)


def sample_inner_times(
    n: int, generator: torch.Generator, full: float = 0.25
) -> tuple[Tensor, Tensor]:
    """A sorted pair of uniforms; a fraction `full` of the pairs is the whole jump (0, 1)."""
    pair = torch.rand(2, n, generator=generator).sort(0).values
    whole = torch.rand(n, generator=generator) < full
    return pair[0] * ~whole, torch.where(whole, torch.ones(n), pair[1])


def make_draw(x1: Tensor, t: Tensor, s: Tensor, u: Tensor, generator: torch.Generator) -> Draw:
    """Noise the data twice, independently: once as context, once as inner state."""
    context_noise = torch.randn(x1.shape, generator=generator)
    noise = torch.randn(x1.shape, generator=generator)
    split = torch.rand(len(x1), generator=generator)
    return Draw(x1, Linear().noised(x1, context_noise, t), t, noise, s, u, split)


def make_draws(
    x1: Tensor,
    power: float,
    generator: torch.Generator,
    zeros: float = 0.1,
    full: float = 0.25,
) -> tuple[Draw, Draw]:
    """Draws on and off the diagonal at shared data and context times U^power.

    zeros, full: see `sample_context_times` and `sample_inner_times`.
    """
    batch = len(x1)
    t = sample_context_times(batch, generator, power, zeros)
    on = torch.rand(batch, generator=generator)
    diagonal = make_draw(x1, t, on, on, generator)
    s, u = sample_inner_times(batch, generator, full)
    return diagonal, make_draw(x1, t, s, u, generator)
