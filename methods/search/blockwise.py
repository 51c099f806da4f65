"""CoDe: best-of-N block by block, so that a choice is made every few steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.api import ParticleDesign, param
from methods.particles.svdd import SVDD, SVDDParams


@dataclass(frozen=True)
class CoDeParams(SVDDParams):
    """Blocks of five steps, and the best of each block, as in the paper."""

    candidates: int = param(8, low=1, high=100_000, log=True, help="candidates N per block")
    alpha: float = param(0.0, low=0.0, high=100.0, help="temperature of the choice; 0: arg-max")
    block: int = param(5, low=1, high=2000, log=True, help="steps B from one choice to the next")


class CoDe(SVDD):
    """CoDe: N paths run on for a block of B base steps, then the best of them is copied to all.

    Singh et al. 2025 (arXiv 2502.00968), in the comparison of arXiv 2503.19385: value = r(D_t) at
    the end of a block, arg-max (or, for alpha > 0, a draw in proportion to e^(value / alpha)).
    B = 1 is `svdd`; B of all K steps is Best-of-N from one noise.  Needs no gradient.  Biased
    towards high reward; and for alpha = 1 as its value is, without weights to correct it.
    Cost per sample: 1 + N (K - 1) flow and N ceil((K - 1) / B) reward forwards.
    """

    summary = "Best-of-N block by block: every few steps the most promising of N paths goes on"
    params: CoDeParams
    Params = CoDeParams
    version = "1"

    def design(self) -> ParticleDesign:
        """As SVDD's, with looks at the ends of blocks."""
        every = super().design()
        ends = {k: f for k, f in every.tempers.items() if k % self.params.block == 0}
        return replace(every, tempers=ends | {every.last: every.tempers[every.last]})
