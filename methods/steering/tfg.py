"""TFG, and FreeDoM, UGD and MPGD as settings of it; the step is in `methods.steering.tfg_step`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from bench.api import (
    Growth,
    Method,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Standing,
    Work,
    backward,
    forward,
    march,
    named_param,
    param,
    reward_work,
    start_param,
)
from methods.steering.tfg_step import SCHEDULES, SMOOTHINGS, Guided, Hold


def schedule_param(default: str) -> Any:
    """A field of Params that names how a size varies along a run."""
    return named_param(default, SCHEDULES, "a is alpha-bar at t, a' at u")


@dataclass(frozen=True)
class TFGParams:
    """The design space of TFG; sizes are those shipped for CIFAR-10 (ImageNet: 2, 0.5, 0.1).

    rho and mu are sizes per step, meant at `reference_steps`; at K steps they are scaled to the
    same guidance in all, so that a larger budget does not buy more of it.  reference_steps=0 takes
    them per step whatever K is, as the source does (which guides five times more, over 100 steps).
    """

    steps: int = param(20, low=1, least=5, high=2000, log=True, help="time steps K")
    inner: int = param(4, low=1, high=100, log=True, help="gradient steps of mean guidance")
    recurrence: int = param(1, low=1, high=100, log=True, help="times R that a step is taken")
    draws: int = param(1, low=1, high=1024, log=True, help="draws that smooth f, if sigma > 0")
    rho: float = param(1.0, low=0.0, high=100.0, help="size of variance guidance")
    mu: float = param(0.25, low=0.0, high=100.0, help="size of mean guidance")
    sigma: float = param(0.001, low=0.0, high=10.0, help="deviation of the smoothing")
    rho_schedule: str = schedule_param("increase")
    mu_schedule: str = schedule_param("increase")
    sigma_schedule: str = named_param("decrease", SMOOTHINGS)
    hold: Hold = param(
        "noise", help="what guidance leaves as it is: noise (e above) or state (x_t, as in UGD)"
    )
    eta: float = param(1.0, low=0.0, high=1.0, help="noise of the sampler; 0: DDIM, 1: ancestral")
    clip: float = param(
        100.0, low=1e-6, high=1e6, log=True, help="largest root mean square of a gradient of f"
    )
    reference_steps: int = param(
        20, low=0, tunable=False, help="steps at which rho and mu are meant; 0: at any"
    )
    start: float = start_param()


class TFG(Method[Any]):
    """Training-free guidance: variance guidance, mean guidance, smoothing and recurrence.

    Ye et al. 2024 (arXiv 2409.15761), Algorithm 1, in the flow's convention.  Assumes a
    differentiable reward and nothing of the law: none of its settings aims at the tilted law, with
    one exception (see UGD), and its sizes are meant to be tuned per task.  Biased towards high
    reward at any number of steps.  Cost per sample: K R (flow forward + backward + (1 + inner)
    draws (reward forward + backward)) = 2 K R (1 + draws (1 + inner)) paper-nfe.
    """

    summary = "gradient steps on xₜ and on the Tweedie point, with smoothing and recurrence"
    standing: ClassVar[Standing] = "baseline"
    Params: ClassVar[type[Any]] = TFGParams
    effort: ClassVar[tuple[str, ...]] = ("steps", "inner", "recurrence")
    # Inner steps push beyond the law; a budget buys more when it is spent on time steps.
    split: ClassVar[Mapping[str, Growth]] = {"steps": Growth(16, 1), "inner": Growth(1, 0)}

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if not params.mu:
            # Without mean guidance there are no inner steps to buy.
            self.effort = ("steps", "recurrence")  # type: ignore[misc]

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.REWARD_GRADIENT})

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        look = reward_work(spec, p.draws if p.sigma else 1, gradient=True)
        calls, looks = spec.calls(spec.grid(p.steps, p.start)[:-1]), 0
        flow = forward("flow", calls)
        if p.rho:
            flow, looks = flow + backward("flow", calls), 1
        if p.mu:
            looks += p.inner
        return (flow + look * float(looks * p.steps)) * float(p.recurrence)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        grid = problem.grid(self.params.steps, self.params.start)
        return march(problem, grid, Guided.of(problem, self.params).move)


@dataclass(frozen=True)
class FreeDoMParams(TFGParams):
    """Variance guidance and recurrence only; size, its schedule and eta as in the face release."""

    recurrence: int = param(2, low=1, high=100, log=True, help="times R that a step is taken")
    mu: float = param(0.0, low=0.0, high=100.0, help="size of mean guidance")
    sigma: float = param(0.0, low=0.0, high=10.0, help="deviation of the smoothing")
    rho_schedule: str = schedule_param("freedom")
    eta: float = param(0.5, low=0.0, high=1.0, help="noise of the sampler; 0: DDIM, 1: ancestral")


class FreeDoM(TFG):
    """FreeDoM: a step of the sampler, a step along the reward's gradient, and back again by noise.

    Yu et al. 2023 (arXiv 2303.09833): x_u = DDIM + rho sqrt(alpha-bar_t) grad r(D), repeated R
    times.  It is tfg:mu=0,sigma=0,rho_schedule=freedom,eta=0.5,recurrence=2; the release repeats
    once to ten times by task, and only in the middle of a run.  Assumes a differentiable reward;
    biased towards high reward at any number of steps.
    Cost per sample: K R (flow forward + backward + reward forward + backward) = 4 K R paper-nfe.
    """

    summary = "a gradient step after every sampling step, repeated by adding noise back"
    standing = "method"
    Params = FreeDoMParams


@dataclass(frozen=True)
class UGDParams(TFGParams):
    """Forward and backward guidance of the implied noise."""

    inner: int = param(1, low=1, high=100, log=True, help="gradient steps of backward guidance")
    recurrence: int = param(2, low=1, high=100, log=True, help="times R that a step is taken")
    rho: float = param(1.0, low=0.0, high=100.0, help="weight of forward guidance")
    mu: float = param(1.0, low=0.0, high=100.0, help="size of backward guidance")
    sigma: float = param(0.0, low=0.0, high=10.0, help="deviation of the smoothing")
    rho_schedule: str = schedule_param("ugd")
    mu_schedule: str = schedule_param("constant")
    hold: Hold = param("state", help="what guidance leaves as it is: noise or state (x_t)")
    # It moves the noise or the mean of a step, whose share of x shrinks with the step by itself.
    reference_steps: int = param(0, low=0, tunable=False, help="as in TFG")


class UGD(TFG):
    """Universal guidance: the implied noise is moved by the gradients at D and in x_t.

    Bansal et al. 2023 (arXiv 2302.07121): e - rho alpha_t grad_x r(D) - (beta_t / alpha_t) m, with
    m from `inner` gradient steps on D, then DDIM, R times.  It is tfg:hold=state,rho_schedule=ugd,
    mu_schedule=constant,mu=1,sigma=0,inner=1,recurrence=2,reference_steps=0.  Assumes a
    differentiable reward; with mu=0, eta=0 and recurrence=1 on the linear interpolant it is DPS,
    with the bias of DPS, and else biased further.  Cost per sample: K R (flow forward + backward +
    (1 + inner) (reward forward + backward)) = 2 K R (2 + inner) paper-nfe.
    """

    summary = "moves the implied noise by gradients at the Tweedie point, repeated"
    standing = "method"
    Params = UGDParams


@dataclass(frozen=True)
class MPGDParams(TFGParams):
    """Mean guidance only, by one gradient step."""

    inner: int = param(1, low=1, high=100, log=True, help="gradient steps on D")
    rho: float = param(0.0, low=0.0, high=100.0, help="size of variance guidance")
    mu: float = param(1.0, low=0.0, high=100.0, help="size of a gradient step on D")
    sigma: float = param(0.0, low=0.0, high=10.0, help="deviation of the smoothing")
    mu_schedule: str = schedule_param("constant")
    reference_steps: int = param(0, low=0, tunable=False, help="as in TFG; see UGD")


class MPGD(TFG):
    """Manifold-preserving guidance: a gradient step on the denoiser, the implied noise kept.

    He et al. 2024 (arXiv 2311.16424), Algorithm 1 without its autoencoder: D + mu grad r(D), then
    DDIM with the noise implied by D; nothing passes back through the flow.  It is tfg:rho=0,mu=1,
    mu_schedule=constant,sigma=0,inner=1,reference_steps=0.  Assumes a differentiable reward; biased
    towards high reward at any number of steps.
    Cost per sample: K (flow forward + inner (reward forward + backward)) = K (1 + 2 inner).
    """

    summary = "gradient steps on the Tweedie point, never through the flow"
    standing = "method"
    Params = MPGDParams
