"""Native paths against data of which everything is known: x1 ~ N(m, s^2) in every coordinate."""

import math
from itertools import pairwise

import pytest
import torch

from bench.core.integrate import euler, integrate
from bench.core.native_paths import DiscretePath, FlowPath, KarrasPath, linear_time, norm

MEAN, DEVIATION = 0.7, 0.6
ABAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, 0)
OUTPUTS = ("epsilon", "v", "sample", "flow")


def known(y, t):
    """E[x1 | y] and E[e | y] of y = (1 - t) e + t x1."""
    gain = t * DEVIATION**2 / ((1 - t) ** 2 + (t * DEVIATION) ** 2)
    x1 = MEAN + gain * (y - t * MEAN)
    return x1, (y - t * x1) / (1 - t)


def native(t):
    """alpha and beta with alpha^2 + beta^2 = 1, from their ratio."""
    angle = torch.atan2(1 - t, t)
    return angle.sin(), angle.cos()


def said(output, y, t):
    """What a perfect network of an output says."""
    x1, e = known(y, t)
    alpha, beta = native(t)
    return {"flow": e - x1, "epsilon": e, "sample": x1, "v": beta * e - alpha * x1}[output]


@pytest.fixture
def points():
    t = torch.linspace(0.07, 0.97, 40).double()
    return torch.randn(40, generator=torch.Generator().manual_seed(0)).double(), t


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_velocity_of_a_discrete_path_is_the_exact_one(output, points):
    y, t = points
    x1, e = known(y, t)
    b = DiscretePath(ABAR, output).velocity(said(output, y, t), y, t)
    torch.testing.assert_close(b, x1 - e, rtol=1e-10, atol=1e-10)


def test_the_velocity_of_a_karras_path_is_the_exact_one(points):
    """D = c_skip x + c_out F solved for F, in the terms of the paper."""
    (y, t), data = points, 0.5
    sigma, x = (1 - t) / t, y / t
    x1, e = known(y, t)
    c_skip = data**2 / (sigma**2 + data**2)
    c_out = sigma * data / (sigma**2 + data**2).sqrt()
    b = KarrasPath(data).velocity((x1 - c_skip * x) / c_out, y, t)
    torch.testing.assert_close(b, x1 - e, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("from_noise", [True, False])
def test_the_velocity_of_a_flow_path_is_the_exact_one(from_noise, points):
    y, t = points
    x1, e = known(y, t)
    output = e - x1 if from_noise else x1 - e
    assert torch.equal(FlowPath(from_noise=from_noise).velocity(output, y, t), x1 - e)


def test_scales_are_those_of_the_papers(points):
    _, t = points
    alpha, beta = native(t)
    sigma = (1 - t) / t
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(DiscretePath(ABAR, "v").scale(t), alpha + beta, **close)
    torch.testing.assert_close(
        KarrasPath(0.5).scale(t), (1 + sigma) / (sigma**2 + 0.25).sqrt(), **close
    )
    torch.testing.assert_close(linear_time(beta, alpha), t, **close)
    assert torch.equal(FlowPath().scale(t), torch.ones_like(t))


def test_the_native_state_has_unit_deviation_where_the_data_have():
    """norm is the deviation of y, so that scale * y has deviation 1."""
    t = torch.linspace(0, 1, 11).double()
    torch.testing.assert_close(norm(t) * DiscretePath(ABAR, "v").scale(t), torch.ones_like(t))
    torch.testing.assert_close(norm(t, 0.5) * KarrasPath(0.5).scale(t), torch.ones_like(t))


@pytest.mark.parametrize("path", [DiscretePath(ABAR, "v"), KarrasPath(), FlowPath()])
def test_both_ends_of_the_time_axis_are_finite(path):
    t, y = torch.tensor([0.0, 1.0]).double(), torch.ones(2).double()
    for value in (path.time(t), path.scale(t), path.velocity(y, y, t)):
        assert value.isfinite().all()


@pytest.mark.parametrize("between", ["time", "sigma", "log-sigma"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_times_come_back_exactly(between, dtype):
    path = DiscretePath(ABAR, "epsilon", between)
    t = path.times.to(dtype)
    assert torch.equal(path.time(t), torch.arange(1000.0))


def test_between_two_whole_times_the_stated_coordinate_is_linear():
    sigma = ((1 - ABAR) / ABAR).sqrt()
    for between, mean in {
        "time": linear_time(*_both(sigma)).unfold(0, 2, 1).mean(1),
        "sigma": 1 / (1 + sigma.unfold(0, 2, 1).mean(1)),
        "log-sigma": 1 / (1 + sigma.log().unfold(0, 2, 1).mean(1).exp()),
    }.items():
        found = DiscretePath(ABAR, "epsilon", between).time(mean)
        torch.testing.assert_close(found, torch.arange(999.0) + 0.5, rtol=0, atol=1e-3)


def _both(sigma):
    return 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()


def test_beyond_the_table_the_time_stays():
    path = DiscretePath(ABAR, "epsilon")
    assert path.time(torch.tensor([0.0, 1.0])).tolist() == [999.0, 0.0]


def test_before_the_first_time_the_velocity_is_that_at_the_first():
    """Divided by t instead, the least error of an epsilon would carry the state away."""
    path = DiscretePath(ABAR, "epsilon")
    y, first = torch.tensor([0.3]).double(), path.times[-1:]
    b = path.velocity(1.1 * y, y, torch.zeros(1).double())
    torch.testing.assert_close(b, path.velocity(1.1 * y, y * norm(first), first))
    assert b.abs() < 10


def test_a_table_without_signal_at_its_end_is_read():
    abar = ABAR.clone()
    abar[-1] = 0.0
    assert DiscretePath(abar, "v").time(torch.tensor([0.0])).item() == 999.0


def test_network_times_are_those_of_the_papers():
    t = torch.tensor([0.25, 0.5])
    assert FlowPath(1000.0).time(t).tolist() == [750.0, 500.0]
    assert FlowPath(1000.0, from_noise=False).time(t).tolist() == [250.0, 500.0]
    torch.testing.assert_close(KarrasPath().time(t), torch.tensor([math.log(3) / 4, 0.0]))
    assert FlowPath(1000.0).time(t.bfloat16()).dtype == torch.float32


def test_ddim_is_euler_in_linear_coordinates():
    """Eq. 12 of arXiv 2010.02502 with eta = 0, for a perfect epsilon of the Gaussian law."""
    taus = [900, 700, 400, 150, 10]
    path, z = DiscretePath(ABAR, "epsilon"), torch.linspace(-2, 2, 9).double()

    def epsilon(x, tau):
        t = path.times[tau]
        return known(x * norm(t), t)[1]

    x = z
    for tau, after in pairwise(taus):
        e = epsilon(x, tau)
        x1 = (x - (1 - ABAR[tau]).sqrt() * e) / ABAR[tau].sqrt()
        x = ABAR[after].sqrt() * x1 + (1 - ABAR[after]).sqrt() * e

    def velocity(y, t):
        told = path.time(t)
        assert torch.equal(told, told.round())
        return path.velocity(epsilon(y * path.scale(t), int(told[0])), y, t)

    grid = [float(path.times[tau]) for tau in taus]
    y = integrate(euler(velocity), z * norm(torch.tensor(grid[0]).double()), grid)
    torch.testing.assert_close(y * path.scale(torch.tensor(grid[-1]).double()), x)
