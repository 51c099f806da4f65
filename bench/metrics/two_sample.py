"""Distances between two samples, as functions of tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bench.core.params import UserError

PROJECTIONS = 512
"""Fixed directions of the sliced distance, the same for every method, seed and machine."""

DIRECTIONS_AT_ONCE = 64

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths of the kernel, as multiples of the reference's median distance."""


def directions(dimension: int) -> Tensor:
    """Unit vectors (PROJECTIONS, dimension) from a fixed seed."""
    generator = torch.Generator().manual_seed(512)
    v = torch.randn(PROJECTIONS, dimension, generator=generator, dtype=torch.float64)
    unit: Tensor = v / v.norm(dim=1, keepdim=True)
    return unit


def sliced_w2(x: Tensor, y: Tensor) -> float:
    """sqrt of the mean over directions of the squared W2 of projections, x (n, d), y (m, d).

    W2^2 is the integral of (F^-1 - G^-1)^2 over (0, 1): both quantile functions are constant
    between the multiples of 1/n and 1/m.
    """
    width, at_x, at_y = _common_steps(len(x), len(y), x.device)
    total = 0.0
    for v in torch.split(directions(x.shape[1]).to(x.device), DIRECTIONS_AT_ONCE):
        f, g = ((v @ part.double().T).sort(1).values for part in (x, y))
        total += float(((f[:, at_x] - g[:, at_y]).square() @ width).sum())
    return float((total / PROJECTIONS) ** 0.5)


def _common_steps(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Widths of the steps between multiples of 1/n and 1/m, and the ranks that hold on each."""
    # In units of 1 / (n m) all ends are whole numbers.
    both = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n])
    ends = torch.unique(both).to(device)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return (ends - starts).double() / (n * m), starts // m, starts // n


class ValueWithError(NamedTuple):
    """A value with its standard error."""

    value: float
    standard_error: float


def median_distance(y: Tensor, most: int = 1000) -> float:
    """Median pairwise distance of (at most `most`) rows of the reference.

    Where copies make most distances zero, the median of the others.  Raises UserError where there
    is none.
    """
    found = torch.pdist(y[:most].double())
    middle = float(found.median())
    if middle > 0:
        return middle
    apart = found[found > 0]
    if not len(apart):
        raise UserError("all rows of the reference are the same: its distances have no unit")
    return float(apart.median())


def kernel(x: Tensor, y: Tensor, unit: float) -> Tensor:
    """Mean over SCALES of exp(-|x - y|^2 / (2 (scale unit)^2)), (n, m).

    Each scale is half the next, so each term is the fourth power of the next one's.
    """
    x, y = x.double(), y.double()
    square = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    term = square.clamp_(min=0).mul_(-1 / (2 * (BANDWIDTHS[-1] * unit) ** 2)).exp_()
    total = term.clone()
    for _ in BANDWIDTHS[1:]:
        term = term.square_().square_()
        total += term
    return total / len(BANDWIDTHS)


def mmd2(x: Tensor, y: Tensor, weight: Tensor | None = None) -> ValueWithError:
    """Unbiased MMD^2 with a multi-scale Gaussian kernel whose unit comes from y alone.

    `weight` (m,) weights the reference; the unbiased form then drops the diagonal and divides by
    1 - sum w^2.  The standard error is that of the U-statistic: its first-order (Hajek) and its
    degenerate second-order term, which is all there is when both laws agree.
    """
    w = torch.full((len(y),), 1 / len(y)) if weight is None else weight / weight.sum()
    w = w.double()
    unit = median_distance(y[w > 0])
    kxx, kyy, kxy = kernel(x, x, unit), kernel(y, y, unit), kernel(x, y, unit)
    n, size = len(x), float(1 / w.square().sum())
    off_x = kxx.sum(1) - kxx.diagonal()
    within_x = float(off_x.sum() / (n * (n - 1)))
    off_y = kyy @ w - kyy.diagonal() * w
    within_y = float((w * off_y).sum() / (1 - w.square().sum()))
    cross = kxy @ w
    value = within_x + within_y - 2 * float(cross.mean())
    # Influence of one row of x and of y; they vanish when the laws agree.
    influence_x = off_x / (n - 1) - cross
    influence_y = off_y / (1 - w.square().sum()) - kxy.mean(0)
    centre = float((w * influence_y).sum())
    vxx, vyy, vxy = map(_centred_variance, (kxx, kyy, kxy))
    # The estimated influences are noisy themselves; what noise adds to their variance is removed.
    var_x = float(influence_x.var()) - vxx / n - vxy / size
    var_y = float((w * (influence_y - centre).square()).sum()) - vyy / size - vxy / n
    first = 4 * max(var_x, 0.0) / n + 4 * max(var_y, 0.0) / size
    second = 2 * vxx / n**2 + 2 * vyy / size**2 + 4 * vxy / (n * size)
    return ValueWithError(value, (first + second) ** 0.5)


def _centred_variance(k: Tensor) -> float:
    """Mean square of the doubly centred kernel."""
    centred = k - k.mean(0, keepdim=True) - k.mean(1, keepdim=True) + k.mean()
    return float(centred.square().mean())


MOST_PAIRED = 2000
"""Rows whose distances to one another are taken."""


def mean_pairwise_distance(x: Tensor, most: int = MOST_PAIRED) -> float:
    """Mean Euclidean distance between rows, (at most `most` of them)."""
    return float(torch.pdist(x[:most].double()).mean())
