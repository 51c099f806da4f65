"""A flow's own times and rows: who has the say, where a run begins, and what a call costs."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.api import Linear, NoParams, Timing, Trigonometric, UserError, timing_of
from bench.core.flops import counted
from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.metering import Meter
from bench.core.timing import parts_of
from bench.plan.matching import match
from bench.runner.problems import make_fit_problem
from methods.reference import Prior
from methods.steering.dps import DPS
from tests.worlds.guided import guided_cell
from tests.worlds.scheduled import (
    FIRST,
    INTERVAL,
    LONGEST,
    SPEC,
    Late,
    Said,
    ScheduledFlow,
    own_rows,
    own_times,
    scheduled_instances,
    scheduled_problem,
)
from tests.worlds.search_problems import problem_of
from tests.worlds.seeded import generator

OWN = Timing(own_times)


# -- times ----------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.floats(1e-4, 0.5), st.floats(0.6, 1.0))
def test_a_flow_that_says_nothing_has_the_uniform_grid_to_the_last_digit(steps, start, end):
    problem = problem_of(n=1)
    assert problem.grid(steps) == uniform_grid(steps) == problem.flow.times(steps)
    assert problem.grid(steps, start, end) == uniform_grid(steps, start, end)
    assert problem.remaining(start, steps) == uniform_grid(steps, start)


def test_a_flows_own_times_win_over_a_methods_start():
    problem = scheduled_problem(Prior.create(), 3)
    assert problem.grid(7, start=0.01) == own_times(7) == problem.flow.times(7) == SPEC.grid(7, 0.4)
    assert problem.grid(4, end=0.5) == uniform_grid(4, FIRST, 0.5)
    with pytest.raises(UserError, match=r"begin at 0\.150, after the end at 0\.1"):
        problem.grid(4, end=0.1)


@given(st.integers(2, LONGEST), st.data())
def test_what_remains_after_one_of_its_times_is_the_rest_of_the_schedule(steps, data):
    k = data.draw(st.integers(0, steps - 1))
    whole = own_times(steps)
    assert OWN.remaining(whole[k], steps - k) == whole[k:]


@given(st.floats(0, 0.999), st.integers(1, LONGEST))
def test_what_remains_rises_from_t_to_1(t, steps):
    found = OWN.remaining(t, steps)
    assert found[0] == t and found[-1] == 1 and len(found) == steps + 1
    assert all(a < b for a, b in pairwise(found))


def test_what_remains_near_1_is_even_where_no_schedule_reaches():
    assert OWN.remaining(0.999, 4) == uniform_grid(4, 0.999)
    assert OWN.remaining(0.3, 4, end=0.8) == uniform_grid(4, 0.3, 0.8)


@pytest.mark.parametrize(
    "times",
    [[0.1, 1.0], [0.1, 0.5, 0.5, 1.0], [-0.1, 0.2, 0.5, 1.0], [0.1, 0.2, 0.5, 0.9]],
    ids=["too few", "not rising", "before noise", "short of 1"],
)
def test_times_that_are_none_are_refused(times):
    with pytest.raises(UserError, match="times for 3 steps must be 4 increasing times"):
        Timing(lambda steps: times).grid(3)


def test_a_schedule_without_so_many_steps_says_so_and_matching_takes_fewer():
    with pytest.raises(UserError, match="60 steps at the most"):
        scheduled_problem(Prior.create(), 1).grid(LONGEST + 1)
    found = match(DPS.create(), SPEC, 1e5, lambda work: work.cost("paper-nfe"), {})
    assert found.feasible and found.values == {"steps": LONGEST}
    with pytest.raises(UserError, match="60 steps at the most"):
        match(DPS.create(steps=61), SPEC, 1e5, lambda w: w.cost("paper-nfe"), {"steps": 61})


# -- where a run begins ---------------------------------------------------------------------------


def test_x0_is_noise_of_unit_variance_in_the_scale_that_preserves_it():
    problem = scheduled_problem(Prior.create(), 5)
    z = problem.noise("x0", 0, (2,))
    assert torch.equal(problem.x0(), z)
    assert torch.allclose(problem.x0(0.3), math.hypot(0.3, 0.7) * z)
    assert torch.allclose(problem.started(z, own_times(3)), math.hypot(FIRST, 1 - FIRST) * z)
    assert torch.equal(problem_of(n=5).started(z, uniform_grid(4, 0.01)), z)


def test_the_start_does_not_depend_on_the_scale_of_the_interpolant():
    """On the variance preserving interpolant it is z; rescaled to the linear one, x0(t0)."""
    z, i, t = torch.ones(1, 2), Trigonometric(), torch.tensor([0.2])
    own = Timing(own_times, interpolant=i).from_noise(z, 0.2)
    assert torch.allclose(own, z)
    scale = float(i.alpha(t) + i.beta(t))
    linear = Timing(own_times).from_noise(z, float(i.beta(t)) / scale)
    assert torch.allclose(linear, own / scale)


def test_unit_data_keeps_its_law_from_a_later_start():
    """For N(0, I) the flow only rescales: started at t0 every z comes back, to first order."""
    flow, z = ScheduledFlow(), torch.randn(64, 2, generator=generator())
    flow.network.mean.data.zero_()
    half, whole = (
        integrate(euler(flow.velocity), OWN.started(z, g), g) for g in map(OWN.grid, (30, 60))
    )
    assert torch.allclose(2 * whole - half, z, atol=2e-3)
    assert not torch.allclose(whole, z * math.hypot(FIRST, 1 - FIRST), atol=0.05)


# -- what a call costs ----------------------------------------------------------------------------


def times_of(*t):
    return torch.ones(len(t), 2), torch.tensor(t)


def test_rows_are_charged_by_the_time_of_each_row_forward_backward_and_as_a_jvp():
    problem = scheduled_problem(Prior.create(), 4)
    x, t = times_of(0.2, INTERVAL[0], 0.5, INTERVAL[1])
    problem.flow.velocity(x.requires_grad_(), t).sum().backward()
    problem.flow.jvp(x.detach()[2:], t[2:], x.detach()[2:])
    work = problem.meter.work().flow
    assert (work.forward, work.backward, work.jvp) == (6, 6, 3)


def test_flops_are_those_of_the_rows_that_ran():
    """A linear network: 8 FLOPs a row and run; a batch of both kinds is priced by its parts."""
    weight = torch.ones(2, 2)

    def velocity(x, t, condition=None):
        inside = torch.tensor([own_rows(round(u, 6)) == 2 for u in t.tolist()])
        return (x @ weight).index_add(0, inside.nonzero()[:, 0], x[inside] @ weight)

    meter = Meter(count_flops=True)
    flow = meter.wrap("flow", velocity, Timing(rows=own_rows).cost(2), ("interval",), (2,))
    for times in ((0.5, 0.5), (0.1, 0.1, 0.9), (0.1, 0.5, 0.6, 0.9)):
        before = meter.work()
        x, t = times_of(*times)
        flow(x, t)
        now, runs = meter.work(), sum(map(own_rows, times))
        assert now.flow.forward - before.flow.forward == runs
        assert now.flops - before.flops == counted(lambda x=x, t=t: velocity(x, t)) == 8 * runs


def test_parts_share_out_the_rows_of_a_batch():
    x, t = times_of(0.1, 0.5, 0.9, 0.5)
    found = parts_of(own_rows, x, t)
    assert [(part.cost, part.of(t, 4).tolist()) for part in found] == [
        (1, pytest.approx([0.1, 0.9])),
        (2, [0.5, 0.5]),
    ]


def test_rows_are_looked_up_at_the_time_that_was_meant():
    """float32 has no 0.7: it falls short of the end of the interval, and is not inside it."""
    assert float(torch.tensor(0.7)) < 0.7
    assert timing_of(ScheduledFlow()).rows_at(float(torch.tensor(0.7))) == own_rows(0.7) == 1


def test_a_flow_to_train_is_charged_by_the_same_rows():
    problem, (x, t) = scheduled_problem(Prior.create(), 3), times_of(0.1, 0.5, 0.5)
    fit = make_fit_problem(guided_cell(1, 3), scheduled_instances(Prior.create()), Meter())
    model = fit.trainable_flow()
    model.velocity(x, t).sum().backward()
    assert fit.problem.meter.work().flow.forward == fit.problem.meter.work().flow.backward == 5
    assert fit.problem.grid(5) == problem.grid(5)


# -- who says it ----------------------------------------------------------------------------------


def test_a_flow_made_late_must_be_known_to_the_plan():
    with pytest.raises(UserError, match=r"return the same from its method timing\(\)"):
        scheduled_problem(Prior.create(), 2, Late(NoParams()))
    assert scheduled_problem(Prior.create(), 2, Said(NoParams())).grid(5) == own_times(5)
    late = Late(NoParams())
    assert late.timing() == Timing() and "flow" not in vars(late), "asking loads nothing"


def test_a_problem_forwards_what_a_remembered_or_metered_flow_was_told():
    problem = scheduled_problem(Prior.create(), 2)
    assert timing_of(problem.flow) is problem.timing
    assert replace(problem, rows=range(1)).timing is problem.timing
    assert timing_of(object()) == Timing(interpolant=Linear())
