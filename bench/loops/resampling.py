"""Resampling: log weights and uniforms in, indices of the survivors out.

Every scheme is unbiased: particle i is expected N w_i times among the N survivors.  They differ in
how much the counts vary: multinomial most, stratified less, systematic and SSP by less than one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.posterior import softmax_ess
from bench.core.watch import waits_for_none

Resampler = Callable[[Tensor, Tensor], Tensor]
"""(log weights (groups, N), uniforms (groups, N)) -> indices (groups, N)."""


def at_quantiles(log_weight: Tensor, points: Tensor) -> Tensor:
    """Inverse CDF: the particle on which each point of [0, 1) falls, points (groups, any)."""
    cumulative = log_weight.softmax(1).cumsum(1)
    scaled = (points * cumulative[:, -1:]).contiguous()
    index = torch.searchsorted(cumulative, scaled, right=True)
    return index.clamp(max=log_weight.shape[1] - 1)


def _slots(like: Tensor) -> Tensor:
    """0, 1, ..., N - 1 for `like` (groups, N)."""
    return torch.arange(like.shape[1], device=like.device, dtype=like.dtype)


def multinomial(log_weight: Tensor, u: Tensor) -> Tensor:
    """N independent draws (Gordon, Salmond and Smith 1993)."""
    return at_quantiles(log_weight, u)


def stratified(log_weight: Tensor, u: Tensor) -> Tensor:
    """One uniform in each of N equal strata (Kitagawa 1996)."""
    return at_quantiles(log_weight, (_slots(u) + u) / u.shape[1])


def systematic(log_weight: Tensor, u: Tensor) -> Tensor:
    """The same uniform in every stratum: N equally spaced points (Carpenter et al. 1999)."""
    return at_quantiles(log_weight, (_slots(u) + u[:, :1]) / u.shape[1])


def ssp(log_weight: Tensor, u: Tensor) -> Tensor:
    """Srinivasan sampling process (Gerber, Chopin and Whiteley 2019, arXiv 1708.02230).

    N w_i = whole part + share.  Shares meet in turn: of two with sum s, one takes min(s, 1) and
    the other the rest, at odds that keep both expectations; the one that is still a fraction meets
    the next.
    """
    size = log_weight.shape[1]
    expected = size * log_weight.softmax(1)
    copies = expected.floor()
    share = expected - copies
    rows = torch.arange(len(share), device=share.device)
    open_share, owner = share[:, 0], torch.zeros_like(rows)
    for j in range(1, size):
        total = open_share + share[:, j]
        chance = torch.where(
            total < 1,
            open_share / total.clamp(min=torch.finfo(total.dtype).tiny),
            (1 - share[:, j]) / (2 - total),
        )
        owner_wins = u[:, j] < chance
        winner = torch.where(owner_wins, owner, j)
        loser = torch.where(owner_wins, j, owner)
        settled = (total >= 1).to(copies)
        copies[rows, winner] += settled
        owner = torch.where(total < 1, winner, loser)
        open_share = total - settled
    # Shares add up to a whole number, so what is left is 0 or 1 up to rounding.
    copies[rows, owner] += open_share.round()
    slots = _slots(log_weight).expand_as(copies).contiguous()
    return torch.searchsorted(copies.cumsum(1), slots, right=True).clamp(max=size - 1)


RESAMPLERS: Mapping[str, Resampler] = {
    "systematic": systematic,
    "stratified": stratified,
    "multinomial": multinomial,
    "ssp": ssp,
}


@dataclass(frozen=True)
class Selection:
    """Who goes on (groups, N), with which log weights, what log Z gained, and who was resampled."""

    index: Tensor
    log_weight: Tensor
    log_z: Tensor
    resampled: Tensor


Select = Callable[[Tensor, Tensor], Selection]
"""(log weights, uniforms), both (groups, N) -> Selection."""


def adaptive_resampling(resample: Resampler, threshold: float) -> Select:
    """Resample the groups with ESS < threshold * N; the others keep their weights.

    Dropping weights where resampling is skipped is the error of the public FK code (peers.md 2.5).
    """

    def select(log_weight: Tensor, u: Tensor) -> Selection:
        size = log_weight.shape[1]
        due = softmax_ess(log_weight, 1) < threshold * size
        stay = torch.arange(size, device=u.device).expand_as(log_weight)
        # Whether anybody is due can be asked where nobody waits for the answer.
        idle = waits_for_none(due.device) and not due.any()
        index = stay if idle else torch.where(due[:, None], resample(log_weight, u), stay)
        kept = log_weight.masked_fill(due[:, None], 0.0)
        gained = log_weight.logsumexp(1) - math.log(size)
        return Selection(index, kept, gained.where(due, torch.zeros_like(gained)), due)

    return select


def single_survivor(greedy: bool) -> Select:
    """One particle, drawn by weight or the best, takes every place; no weight is carried."""

    def select(log_weight: Tensor, u: Tensor) -> Selection:
        top = log_weight.argmax(1, keepdim=True)
        index = top if greedy else at_quantiles(log_weight, u[:, :1])
        none = torch.zeros_like(log_weight)
        return Selection(index.expand_as(log_weight), none, none[:, 0], none[:, 0] + 1)

    return select
