"""How well a picture compresses: rewards without a gradient that are easy to check by eye."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.api import Condition, Task
from bench.models.picture_folder import jpeg_bytes
from rewards.pictures import PictureParams, PictureReward, Scale


class Compressibility(PictureReward[PictureParams]):
    """Minus the size of the picture as a JPEG of quality 95, in kB (DDPO, arXiv 2305.13301).

    r(x) = -bytes / 1000; a 512x512 photograph is around -100 to -200.  The picture is clipped to
    [0, 1] and rounded to 8 bits first.  Not differentiable.
    """

    Params = PictureParams
    differentiable = False
    scales: ClassVar[dict[str, Scale]] = {"": Scale("kB, negative", high=0)}
    sign: ClassVar[float] = -1.0

    def unbuilt(self, task: Task[Any]) -> tuple[()]:
        return ()

    @torch.no_grad()
    def __call__(self, x: Tensor, condition: Condition) -> Tensor:
        unit = self.unit(x)
        finite = unit.flatten(1).isfinite().all(1)
        shown = unit.nan_to_num().mul(255).round().clamp(0, 255).to(torch.uint8)
        sizes = [jpeg_bytes(picture) / 1000 for picture in shown.permute(0, 2, 3, 1).cpu()]
        scores = self.sign * torch.tensor(sizes, dtype=torch.float32, device=x.device)
        # A picture that is not finite has no size; the caller turns this into an error.
        return scores.masked_fill(~finite, torch.nan)


class Incompressibility(Compressibility):
    """The size of the picture as a JPEG of quality 95, in kB (DDPO, arXiv 2305.13301).

    r(x) = bytes / 1000.  Not differentiable.
    """

    scales: ClassVar[dict[str, Scale]] = {"": Scale("kB", low=0)}
    sign: ClassVar[float] = 1.0
