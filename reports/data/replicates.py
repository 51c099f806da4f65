"""What is repeated: cells by condition, seed and fit, and the error of their mean.

The mean gives every condition the same weight, whatever failed in it.  With weights w_i and the
mean m_c of its condition, row i contributes u_i = w_i (x_i - m_c), and a factor whose J clusters
were drawn independently makes the variance (Liang and Zeger, Biometrika 73, 1986)

    V = J / (J - 1)  sum_j (sum_{i in j} u_i)^2,        J - 1 degrees of freedom,

for one condition s^2 / J.  Seeds are such a factor, and so are fits, which are trained once and
then sampled many times.  Sentences are one, with u_i = w_i (x_i - m); labels are all there are and
none.  Clusters of unequal size count as so many of one size, (sum n_j)^2 / sum n_j^2.  A factor
inside another one (a fit for every seed) adds nothing.  Where two cross, each of them holds the
variance of the rest once, so that it is in their sum once too often:

    V = V_A + V_B - V_AB,   V_AB = J_A J_B / ((J_A - 1)(J_B - 1))  sum (u without either mean)^2,

where V_B - V_AB, of the smaller one, is at least 0; degrees of freedom are Satterthwaite's.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

NO_FIT = -1

Source = Literal["seeds", "prompts", "fits", "cell", "one fit", "none"]
"""What an error comes from: the spread over a factor, or the cells' own errors; or why there is
none: a single fit tells nothing of another one, a single cell has no error of its own."""


class Row(NamedTuple):
    """A value in a cell, its own standard error, and which fit of its condition it is from."""

    condition: str
    seed: int
    value: float
    own: float = math.nan
    fit: int = NO_FIT


class Factor(NamedTuple):
    """The variance that the clusters of a factor show; gaps are their values about the mean."""

    source: Source
    variance: float
    freedom: float
    gaps: tuple[float, ...]


class Spread(NamedTuple):
    """Mean of rows, their own standard error, and its variance over the factors repeated.

    The factors are sorted, that with the largest variance first; the second is without the rest.
    """

    mean: float
    own: float
    variance: float
    freedom: float
    factors: tuple[Factor, ...]

    @property
    def main(self) -> Factor:
        """The factor that makes most of the variance."""
        return self.factors[0]


def spread(rows: Sequence[Row], sentences: bool = False) -> Spread:
    """Mean and variance of at least one row; sentences: conditions were drawn from many more."""
    means = {c: _mean(r.value for r in own) for c, own in _grouped(rows).items()}
    counts = {c: len(own) for c, own in _grouped(rows).items()}
    mean, weight = _mean(means.values()), {c: 1 / (len(means) * n) for c, n in counts.items()}
    own = math.hypot(*(weight[r.condition] * r.own for r in rows)) or math.nan
    grown = _leverage(counts)
    within = [
        grown[r.condition] * weight[r.condition] * (r.value - means[r.condition]) for r in rows
    ]
    found = [_factor(name, labels, within, mean) for name, labels in _crossed(rows)]
    if sentences and len(means) > 1:
        about = [weight[r.condition] * (r.value - mean) for r in rows]
        found.append(_factor("prompts", [r.condition for r in rows], about, mean))
    if not found:
        return Spread(mean, own, math.nan, math.nan, ())
    found.sort(key=lambda factor: -factor.variance)
    if len(found) == 2:
        own_part = found[1].variance - _rest(rows, within, sentences)
        found[1] = found[1]._replace(variance=max(own_part, 0.0))
    variance = sum(factor.variance for factor in found)
    return Spread(mean, own, variance, _satterthwaite(found), tuple(found))


def lone_fit(rows: Sequence[Row], sentences: bool = False) -> bool:
    """Whether all rows are from one fit, of which no other sentence has its own."""
    fits = {row.fit for row in rows}
    several = sentences and len({row.condition for row in rows}) > 1
    return len(fits) == 1 and fits != {NO_FIT} and not several


def numbered(fits: Iterable[tuple[str, str]]) -> list[int]:
    """For (condition, id of the fit) of rows: which fit of its condition it is, in order."""
    seen: dict[str, dict[str, int]] = defaultdict(dict)
    return [seen[c].setdefault(fit, len(seen[c])) if fit else NO_FIT for c, fit in fits]


def _leverage(counts: dict[str, int]) -> dict[str, float]:
    """By what the deviations of a condition grow where some of its cells are missing.

    Of n cells a mean takes 1/n of the variance; of a single one all, and the others stand for it.
    """
    most = max(counts.values())
    several = sum(1 / n for n in counts.values() if n > 1) or 1.0
    alone = (sum(1 / n for n in counts.values()) / several) ** 0.5
    full = (most - 1) / most
    return {c: alone * (full * n / (n - 1)) ** 0.5 if n > 1 else 1.0 for c, n in counts.items()}


def _grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.condition].append(row)
    return found


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _crossed(rows: Sequence[Row]) -> list[tuple[Source, list[int]]]:
    """Seeds and fits of two clusters or more, without the one that lies inside the other."""
    seeds, fits = [row.seed for row in rows], [row.fit for row in rows]
    many_seeds, many_fits = len(set(seeds)) > 1, len(set(fits)) > 1
    pairs = len(set(zip(seeds, fits, strict=True)))
    if many_fits and pairs == len(set(seeds)):  # a seed knows its fit
        many_seeds = False
    elif many_seeds and pairs == len(set(fits)):
        many_fits = False
    kept: list[tuple[Source, list[int], bool]]
    kept = [("seeds", seeds, many_seeds), ("fits", fits, many_fits)]
    return [(name, labels) for name, labels, many in kept if many]


def _factor(
    source: Source, labels: Sequence[Hashable], contributions: list[float], mean: float
) -> Factor:
    sums: dict[Hashable, float] = defaultdict(float)
    for label, value in zip(labels, contributions, strict=True):
        sums[label] += value
    count = len(sums)
    sizes = list(Counter(labels).values())
    even = sum(sizes) ** 2 / sum(size * size for size in sizes)
    variance = even / (even - 1) * sum(value * value for value in sums.values())
    return Factor(source, variance, even - 1, tuple(mean + count * v for v in sums.values()))


def _rest(rows: Sequence[Row], within: list[float], sentences: bool) -> float:
    """V_AB of the two factors that cross: seeds or fits, and sentences or fits."""
    first = _crossed(rows)[0][1]
    prompts = sentences and len({row.condition for row in rows}) > 1
    second = [row.condition for row in rows] if prompts else [row.fit for row in rows]
    sums: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for a, b, value in zip(first, second, within, strict=True):
        sums[a, b] += value
    by_a, by_b = (_margin(sums, axis) for axis in (0, 1))
    middle = _mean(sums.values())
    squares = sum((v - by_a[a] - by_b[b] + middle) ** 2 for (a, b), v in sums.items())
    return len(sums) * squares / ((len(by_a) - 1) * (len(by_b) - 1))


def _margin(sums: Mapping[tuple[Hashable, Hashable], float], axis: int) -> dict[Hashable, float]:
    """Means over the other index."""
    found: dict[Hashable, list[float]] = defaultdict(list)
    for key, value in sums.items():
        found[key[axis]].append(value)
    return {label: _mean(values) for label, values in found.items()}


def _satterthwaite(factors: list[Factor]) -> float:
    total = sum(factor.variance for factor in factors)
    if total == 0:
        return float(min(factor.freedom for factor in factors))
    return 1 / sum((factor.variance / total) ** 2 / factor.freedom for factor in factors)
