"""Linear-Gaussian inverse problems on pictures: y = A x* + sigma e, and r(x) = log p(y | x).

x* is a held-out picture of the task and e a fixed draw, so the observation is the same for every
method, seed and machine.  The judge compares with x* itself, which no method sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from bench.api import Condition, Reward, Task, UserError, param
from rewards.pictures import Scale

NOISE_SEED = 20_260
InverseP = TypeVar("InverseP", bound="InverseParams")


@dataclass(frozen=True)
class InverseParams:
    """Which picture, and how precisely it is observed."""

    index: int = param(0, low=0, tunable=False, help="held-out picture to recover")
    sigma: float = param(0.1, low=1e-3, tunable=False, help="noise standard deviation")


class InverseProblem(Reward[InverseP]):
    """r(x) = -|y - A x|^2 / (2 sigma^2): the log-likelihood up to a constant.

    At strength 1 the tilted law is the posterior p(x | y).  x is (n, channels, height, width) in
    the task's own units.
    """

    scale: ClassVar[Scale] = Scale("log-likelihood up to a constant", high=0)

    def observe(self, x: Tensor) -> Tensor:
        """A x, linear in x."""
        raise NotImplementedError

    def bind(self, task: Task[Any]) -> None:
        data = task.data("held-out")
        if data is None or self.params.index >= len(data):
            size = 0 if data is None else len(data)
            raise UserError(
                f"{type(self).__name__} needs held-out picture {self.params.index}, and the task "
                f"has {size}"
            )
        self.truth = data[self.params.index].float()
        clean = self.observe(self.truth[None])
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(NOISE_SEED))
        self.y = clean + self.params.sigma * noise

    def unbuilt(self, task: Task[Any]) -> tuple[()]:
        return ()

    def highest(self, task: Task[Any]) -> float:
        return 0.0

    def compatible(self, task: Task[Any]) -> str | None:
        shape = tuple(task.data_shape)
        if len(shape) != 3:
            return f"it scores pictures, and the task's samples have shape {shape}"
        if not task.has_data("held-out"):
            return f"it needs held-out pictures of shape {shape}, which the task lacks"
        return None

    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        error = (self.observe(x.float()) - self.y.to(x.device)).flatten(1)
        return -error.square().sum(1) / (2 * self.params.sigma**2)

    def judge(self, x: Tensor, condition: Condition) -> Tensor:
        """Peak signal-to-noise ratio against the picture itself, in dB, for a range of 2."""
        error = (x.float() - self.truth.to(x.device)).flatten(1).square().mean(1)
        return -10 * (error.clamp(min=1e-12) / 4).log10()


@dataclass(frozen=True)
class PictureInpaintParams(InverseParams):
    """How much is hidden."""

    hidden: float = param(0.5, low=0.05, high=0.95, tunable=False, help="hidden share of the side")


class PictureInpaint(InverseProblem[PictureInpaintParams]):
    """Inpainting: a box in the middle of a held-out picture is hidden.

    A multiplies by a mask that is 0 on a centred box whose side is `hidden` of the picture's.
    """

    Params = PictureInpaintParams

    def observe(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        h, w = round(height * self.params.hidden), round(width * self.params.hidden)
        mask = torch.ones(height, width, device=x.device)
        top, left = (height - h) // 2, (width - w) // 2
        mask[top : top + h, left : left + w] = 0
        return x * mask


@dataclass(frozen=True)
class SuperParams(InverseParams):
    """How much smaller the observation is."""

    factor: int = param(2, low=2, high=64, tunable=False, help="pixels per side that are averaged")


class SuperResolution(InverseProblem[SuperParams]):
    """Super-resolution: a held-out picture is seen as averages over factor x factor pixels."""

    Params = SuperParams

    def observe(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, self.params.factor)

    def compatible(self, task: Task[Any]) -> str | None:
        reason = super().compatible(task)
        if reason is None and any(s % self.params.factor for s in task.data_shape[1:]):
            reason = f"the factor {self.params.factor} does not divide {task.data_shape[1:]}"
        return reason


@dataclass(frozen=True)
class DeblurParams(InverseParams):
    """How wide the blur is."""

    width: float = param(1.0, low=0.1, tunable=False, help="deviation of the blur, in pixels")


class Deblur(InverseProblem[DeblurParams]):
    """Deblurring: a held-out picture is seen through a Gaussian blur with zeros around it."""

    Params = DeblurParams

    def observe(self, x: Tensor) -> Tensor:
        reach = math.ceil(3 * self.params.width)
        offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        weight = (-(offsets**2) / (2 * self.params.width**2)).exp()
        weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, -1)
        across = nn.functional.conv2d(x, weight, padding=(0, reach), groups=x.shape[1])
        down = weight.transpose(2, 3)
        return nn.functional.conv2d(across, down, padding=(reach, 0), groups=x.shape[1])
