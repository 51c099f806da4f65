"""Class dropout and model guidance: classifier-free guidance learnt into the velocity itself.

The target of the labelled rows is moved by the network's own class direction,

    v_target = target + omega sg[v(., y, w) - v(., none, 1)],

whose fixed point is v = v_none + w (v_y - v_none) with w = 1 / (1 - omega) (arXiv 2601.14430,
Eqs. 69-70).  Guided velocities are not the flow of any tilted law: w = 1 is the honest model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.core.integrate import Velocity
from bench.models.meta_flow_map import Known

Teacher = Callable[[Known], Velocity]
"""What the networks are told -> the velocity that a map learns from, told the same."""


def drop_labels(label: Tensor, null: int, probability: float, generator: torch.Generator) -> Tensor:
    """Labels (batch,), each replaced by `null` with the given probability."""
    dropped = torch.rand(len(label), generator=generator) < probability
    return torch.where(dropped, torch.full_like(label, null), label)


def draw_scales(
    label: Tensor, null: int, guided: float, share: float, generator: torch.Generator
) -> Tensor:
    """Guidance scales (batch,): `guided` for a share of the labelled rows, 1 for all others."""
    chosen = (torch.rand(len(label), generator=generator) < share) & (label != null)
    return torch.where(chosen, guided, 1.0)


def told(
    label: Tensor,
    null: int,
    dropout: float,
    guided: float,
    share: float,
    generator: torch.Generator,
) -> Known:
    """What networks are told of labels (batch,): with dropout, and the scales of model guidance;
    of none where it guides no row ever.
    """
    label = drop_labels(label, null, dropout, generator)
    scale = draw_scales(label, null, guided, share, generator)
    return Known(label, scale if share else None)


def guided_rows(scale: Tensor) -> Tensor:
    """The rows that model guidance is for; the first, which a scale of 1 leaves alone, for none.

    Never empty: workers that hold parts of a network must call it equally often.
    """
    rows = (scale != 1).nonzero()[:, 0]
    return rows if len(rows) else rows.new_zeros(1)


def model_guidance(target: Tensor, labelled: Tensor, unlabelled: Tensor, scale: Tensor) -> Tensor:
    """target + omega (v(., y, w) - v(., none, 1)) with omega = 1 - 1 / w; no gradient.

    target, labelled, unlabelled: (batch, *event), the last two being the network's velocities with
    the label at scale w and without it; scale: w (batch,), 1 leaves the target alone.
    """
    omega = (1 - 1 / scale).reshape(-1, *[1] * (target.dim() - 1))
    return (target + omega * (labelled - unlabelled)).detach()


def recombined(teacher: Teacher, null: int, trained: float) -> Teacher:
    """A teacher whose labelled velocities are guided at scale `trained`, at the scale that is told.

        v_c = (1 - omega) v_mg + omega v_none,   v = v_none + w (v_c - v_none),

    with omega = 1 - 1 / trained (arXiv 2601.14430, of decoupled mean flows trained with model
    guidance): w = 1 gives back the class's own velocity, w = trained the teacher's.  Rows without a
    label keep v_none.  Cost: 2 teacher forwards.
    """

    def told(known: Known) -> Velocity:
        if known.label is None:
            return teacher(known)
        guided = teacher(Known(known.label))
        plain = teacher(Known(torch.full_like(known.label, null)))
        scale = torch.ones(len(known.label)) if known.scale is None else known.scale

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            omega, none = 1 - 1 / trained, plain(x, t)
            own = (1 - omega) * guided(x, t) + omega * none
            w = scale.to(x).reshape(-1, *[1] * (x.dim() - 1))
            return none + w * (own - none)

        return velocity

    return told
