"""Feynman-Kac steering: particles of the base sampler, weighted by what they look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from bench.api import (
    POTENTIALS,
    ParticleMethod,
    ParticleParams,
    named_param,
    param,
    resampling_param,
)


@dataclass(frozen=True)
class FKParams(ParticleParams):
    """Feynman-Kac steering; the release takes 100 steps and potentials at 20, 40, 60 and 80."""

    resampling: str = resampling_param("multinomial")
    potential: str = named_param("difference", POTENTIALS)
    looks: int = param(4, low=0, high=2000, help="potentials before the last, evenly")


class FK(ParticleMethod):
    """Feynman-Kac steering: particles of the base sampler, weighted by rewards of their denoisers.

    Singhal et al. 2025 (arXiv 2501.06848), potentials of r(D_t): difference e^(r_t - r_s), max
    e^(max_s r_s), sum e^(sum_s r_s), plain e^(r_t); the last brings the product to e^r(x1).  At
    each of the L looks whole particles are resampled in proportion to their potentials since the
    last resampling, but only where the effective sample size is below `threshold` P, weights being
    carried on elsewhere; the release resamples at every look (here threshold = 1), and its adaptive
    option drops the weights of the looks that it skips.  After the last look nothing is resampled:
    the particles are returned with their weights.
    Assumes nothing of the reward, not even a gradient.  Exact for the chain of K steps as P grows
    (difference quickest), with an unbiased estimate of Z; at small P biased towards the base model,
    and argmax towards high reward.  Cost per sample, L looks: P (K flow + (L + 1) reward forwards).
    """

    summary = "particles of the base sampler, reweighted by the reward of their look-ahead"
    standing = "baseline"
    Params = FKParams

    @property
    def potential(self) -> Callable[[Tensor], Tensor]:
        return POTENTIALS[self.params.potential]

    def tempers(self) -> Mapping[int, float]:
        # The first step sees noise and is left out; the last is always seen.
        last, looks = self.params.steps - 1, min(self.params.looks, self.params.steps - 2)
        seen = [last * j // (looks + 1) for j in range(1, looks + 1)]
        return dict.fromkeys([*seen, last], 1.0)
