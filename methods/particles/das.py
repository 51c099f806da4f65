"""The twisted sampler with a reward that is faded in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.api import param, resampling_param
from methods.particles.tds import Twisted, TwistedParams


@dataclass(frozen=True)
class DASParams(TwistedParams):
    """Tempered twisted diffusion, with the release's defaults."""

    resampling: str = resampling_param("ssp")
    gamma: float = param(0.008, low=0.0, high=1.0, help="growth of the temper per 1/100 of the run")


class DAS(Twisted):
    """Diffusion alignment as sampling: the twisted sampler with a reward that is faded in.

    Kim et al. 2025 (arXiv 2501.05803): psi_t = e^(lambda_t r(D_t)) with lambda = min((1 + gamma)^i
    - 1, 1), gamma = 0.008, at step i of the release's 100; here i = 100 k / K, so that the schedule
    does not depend on K.  The last weight uses r itself, so exactness is that of TDS and holds for
    every gamma.  The release returns the particle of largest weight: `output` keeps a draw and the
    arg-max apart.  Cost per sample: P (K flow + K reward forwards + (K - 1) backwards of each).
    """

    summary = "the twisted sampler with a reward that is faded in"
    standing = "baseline"
    Params = DASParams

    def tempers(self) -> Mapping[int, float]:
        last, growth = self.params.steps - 1, 1 + self.params.gamma
        faded = {k: min(growth ** (100 * k / (last + 1)) - 1, 1.0) for k in range(last)}
        return faded | {last: 1.0}
