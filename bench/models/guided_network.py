"""Classifier-free guidance of a flow that was not trained to imitate it (arXiv 2207.12598)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.core.paths import Interpolant
from bench.core.protocols import Condition
from bench.models.dit import DiT, DiTFlow


class GuidedDiTFlow(nn.Module):
    """b_t(x) = b_t(x | no label) + w (b_t(x | label) - b_t(x | no label)).

    Every row runs the network on two rows, both in one call.  It is not the flow of any law.
    """

    hears_rows = True

    def __init__(self, net: DiT, scale: float) -> None:
        super().__init__()
        self.flow, self.scale = DiTFlow(net), scale
        self.event_shape = net.config.event_shape
        self.interpolant: Interpolant = self.flow.interpolant

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """The guided velocity, shape of x."""
        label, _ = self.flow.told(condition, t)
        none = torch.full_like(label, self.flow.net.config.classes)
        both = torch.cat([label, none]), torch.ones_like(t).repeat(2)
        told, untold = self.flow.velocity(torch.cat([x, x]), t.repeat(2), both).chunk(2)
        return untold + self.scale * (told - untold)
