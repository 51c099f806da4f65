"""Psi-Sampler: the twisted sampler, from initial noises that already follow the reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.api import (
    Growth,
    ParticleDesign,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Remembered,
    Samples,
    UserError,
    Work,
    filled,
    forward,
    param,
    particle_noise,
    require_finite,
    reward_work,
    rows_taken,
    uniforms,
)
from methods.particles.tds import Twisted, TwistedParams


@dataclass(frozen=True)
class PsiParams(TwistedParams):
    """The release: step 0.5, and as many evaluations for the noises as for the steps, 25 each.

    It runs 5 chains of 50 moves and thins the second half to 10 particles; here every particle is
    the end of a chain of its own, at the same cost.
    """

    steps: int = param(25, low=1, least=5, high=2000, log=True, help="time steps K")
    moves: int = param(25, low=1, high=10_000, log=True, help="moves J of every initial noise")
    step: float = param(0.5, low=1e-4, high=4.0, log=True, help="step epsilon of a move")


class Psi(Twisted):
    """Psi-Sampler: pCNL moves of the initial noises towards the reward, then twisted diffusion.

    Yoon et al. 2025 (arXiv 2506.01320): x0 is drawn from N(0, I) e^r(D(x0)) by preconditioned
    Crank-Nicolson Langevin moves with Metropolis' correction, whose step need not shrink as the
    dimension grows, then sequential Monte Carlo as in `tds`, with the founders' weights for it.
    Assumes a differentiable reward.  Exact for the chain of K steps as P grows, for every J: J
    moves only where the particles begin.  That helps where the look at noise tells ends apart, as a
    one-step model's does, and where the chain remembers its start; the exact denoiser of noise is
    E[x1] for every x0, and the memoryless chain forgets, so that here its cost buys little.  No
    estimate of Z: the normaliser of the founders is unknown.
    Cost per sample: that of `tds`, and (J + 1) (flow + reward), forward and backward.
    """

    summary = "the twisted sampler from initial noises that MCMC moves towards the reward"
    Params: ClassVar[type[Any]] = PsiParams
    version = "1"
    effort: ClassVar[tuple[str, ...]] = ("particles", "steps", "moves")
    split: ClassVar[Mapping[str, Growth]] = {"steps": Growth(25, 1), "moves": Growth(25, 1)}

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if not self.value.entry.point or self.gradient_free:
            raise UserError(
                "psi-sampler moves noises by the gradient of a reward without chance: take "
                "posterior=tweedie or posterior=jump, and estimator=G"
            )
        if self.output.whole:
            self.effort = ("steps", "moves")  # type: ignore[misc]

    def design(self) -> ParticleDesign:
        """That of the twisted sampler, with founders of their own."""
        return replace(super().design(), found=self._founded)

    def work(self, spec: ProblemSpec) -> Work:
        p, choice = self.params, self.value
        first = spec.grid(p.steps, p.start)[:1]
        seen = forward("flow", spec.calls(first)) if choice.differentiates_flow else Work()
        look = seen + choice.along(spec, first, 1, gradient=True)
        look = look + reward_work(spec, 1, gradient=True)
        chains = 1 if self.output.whole else p.particles
        return super().work(spec) + look * float((p.moves + 1) * chains)

    def sample(self, problem: Problem, n: int) -> Samples:
        return replace(super().sample(problem, n), log_z=None)

    def _founded(self, problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of the chains, and log p/q = -r at what they look at."""
        p, size = self.params, x.shape[1]
        grid = problem.grid(p.steps, p.start)
        now = looked_at(problem, self.value, x.flatten(0, 1), grid)
        for k in range(p.moves):
            z = particle_noise(problem, k, size)("pcnl", problem.event_shape)
            u = uniforms(problem, "accept", k, size).flatten()
            drawn = looked_at(problem, self.value, proposed(now, z, p.step), grid)
            taken = u.log() < log_acceptance(now, drawn, p.step)
            now, share = rows_taken(taken, drawn, now), float(taken.double().mean())
            problem.log(k, accepted=share, reward=float(now.reward.mean()))
        return now.x.reshape(x.shape), -now.reward.reshape(x.shape[:2])


# -- preconditioned Crank-Nicolson Langevin moves for N(0, I) e^r ---------------------------------


@dataclass(frozen=True)
class Seen:
    """Noises x (rows, *event), r (rows,) at what they look like, and its gradient."""

    x: Tensor
    reward: Tensor
    gradient: Tensor


def looked_at(problem: Problem, choice: PosteriorChoice, x: Tensor, grid: Sequence[float]) -> Seen:
    """Normals x with the reward at their look-ahead from the first time of `grid`."""
    x, flow = x.detach().requires_grad_(), Remembered(problem.flow)
    with torch.enable_grad():
        state, time = problem.started(x, grid), filled(grid[0], x)
        ahead = choice.build(problem, flow).draw(state, time, 1, problem.noise_at(0))
        r = problem.reward(ahead[0])
        (gradient,) = torch.autograd.grad(r.sum(), x)
    return Seen(x.detach(), r.detach().double(), require_finite(gradient, "gradients", 0))


def kept(step: float) -> tuple[float, float, float]:
    """rho = (1 - epsilon/4) / (1 + epsilon/4), sqrt(1 - rho^2), and sqrt(epsilon) / 2."""
    rho = (1 - step / 4) / (1 + step / 4)
    return rho, math.sqrt(1 - rho**2), math.sqrt(step) / 2


def proposed(now: Seen, z: Tensor, step: float) -> Tensor:
    """x' = rho x + sqrt(1 - rho^2) (z + sqrt(epsilon)/2 grad r)."""
    rho, s, a = kept(step)
    return rho * now.x + s * (z + a * now.gradient)


def log_acceptance(now: Seen, drawn: Seen, step: float) -> Tensor:
    """log of Metropolis' ratio, (rows,): 0 where r is linear."""
    rho, s, a = kept(step)

    def joint(a_: Seen, b: Seen) -> Tensor:
        noise, g = (b.x - rho * a_.x) / s, a_.gradient
        return a_.reward + (a * noise * g - 0.5 * (a * g) ** 2).flatten(1).double().sum(1)

    return joint(drawn, now) - joint(now, drawn)
