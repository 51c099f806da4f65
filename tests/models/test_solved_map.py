"""The solved map of a mixture against what is known: one Gaussian, a fine grid, exact draws."""

import pytest
import torch

from bench.core.integrate import heun, integrate, uniform_grid
from bench.core.map_posterior import MapPosterior
from bench.models.mixture import Mixture, paper_mixture, random_mixture
from bench.models.mixture_roles import MixtureFlow
from bench.models.solved_map import IntegratedMap
from bench.plan.binding import make_task

D = 4


def times(t: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full((len(like),), t, dtype=like.dtype)


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(mixture: Mixture, steps: int = 24) -> IntegratedMap:
    return IntegratedMap(MixtureFlow(mixture), steps)


def gaussian_draw(mixture: Mixture, x: torch.Tensor, t: float, z: torch.Tensor) -> torch.Tensor:
    """m + S^(1/2) z, where the posterior flow of one Gaussian takes z: its laws all commute."""
    posterior = mixture.posterior(x, times(t, x))
    root = posterior.factor[0, 0] @ mixture.basis[0].mT
    return posterior.mean[:, 0] + z @ root.mT


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9])
def test_the_posterior_of_one_gaussian_is_met(t):
    mixture, x, z = random_mixture(D, 1, seed=3), normals(16, D), normals(16, D, seed=1)
    exact = gaussian_draw(mixture, x, t, z)
    zero, one, at = (times(v, x) for v in (0.0, 1.0, t))
    draw = z + solved(mixture).velocity(z, zero, one, x, at)
    spread = (exact - mixture.denoiser(x, at)).norm(dim=-1)
    assert ((draw - exact).norm(dim=-1) / spread).max() < 0.03


def test_the_error_falls_with_the_square_of_the_steps():
    mixture, x, z = random_mixture(D, 1, seed=3), normals(16, D), normals(16, D, seed=1)
    exact, zero, one, at = gaussian_draw(mixture, x, 0.5, z), *(times(v, x) for v in (0, 1, 0.5))

    def error(steps: int) -> float:
        draw = z + solved(mixture, steps).velocity(z, zero, one, x, at)
        return float((draw - exact).norm())

    assert 3.2 < error(16) / error(32) < 4.8


def test_a_jump_of_no_length_is_the_velocity():
    mixture, x = paper_mixture(), normals(8, 2)
    at = torch.linspace(0, 0.9, 8, dtype=torch.float64)
    assert torch.allclose(solved(mixture).jump(x, at, at), x)
    inner = solved(mixture).velocity(x, times(0.3, x), times(0.3, x), x + 1, at)
    near = solved(mixture).velocity(x, times(0.3, x), times(0.3 + 1e-7, x), x + 1, at)
    assert torch.allclose(inner, near, atol=1e-4)


def test_jumps_follow_the_flow_and_compose():
    mixture = paper_mixture()
    x, flow_map = normals(64, 2), solved(mixture, 200)
    start, middle, end = (times(t, x) for t in (0.05, 0.4, 1.0))
    whole = flow_map.jump(x, start, end)
    parts = flow_map.jump(flow_map.jump(x, start, middle), middle, end)
    fine = integrate(heun(mixture.velocity), x, uniform_grid(4000, 0.05, 1.0))
    # Where a trajectory passes between two components the last digits decide; no mean hides it.
    assert (whole - fine).norm(dim=-1).median() < 1e-3
    assert (parts - fine).norm(dim=-1).median() < 1e-3
    assert (whole - fine).norm(dim=-1).max() < 0.1


def test_gradients_pass_through_a_draw():
    """For one Gaussian dX/dx = dm/dx, the same for every z."""
    mixture, x, z = random_mixture(D, 1, seed=3), normals(1, D), normals(1, D, seed=1)
    zero, one, at = (times(v, x) for v in (0.0, 1.0, 0.5))

    def draw(state: torch.Tensor) -> torch.Tensor:
        return solved(mixture).velocity(z, zero, one, state, at)

    def mean(state: torch.Tensor) -> torch.Tensor:
        return mixture.denoiser(state, at)

    ours = torch.autograd.functional.jacobian(draw, x)
    exact = torch.autograd.functional.jacobian(mean, x)
    assert (ours - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_task_draws_from_the_posterior_in_any_dimension(t):
    _, task = make_task("gmm:dimension=16")
    x = task.draw_data(8, torch.Generator().manual_seed(0))
    x, at = t * x + (1 - t) * normals(8, 16, seed=2).float(), torch.full((8,), t)
    generator = torch.Generator().manual_seed(5)

    def noise(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(8, *shape, generator=generator)

    ours = MapPosterior(task.flow_map).draw(x, at, 4000, noise)
    exact = task.posterior.draw(x, at, 4000, noise)
    spread = exact.var(0).sum(-1)
    assert ((ours.mean(0) - exact.mean(0)).square().sum(-1) / spread).max() < 0.01
    assert (ours.var(0).sum(-1) / spread - 1).abs().max() < 0.1
