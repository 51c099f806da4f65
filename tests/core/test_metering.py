"""The meter counts what happens, stops at the limit, and refuses what it cannot count."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from bench.core.flops import counted
from bench.core.metering import Meter, OverBudget, TimeIsUp
from bench.core.refusals import Unmeterable
from bench.core.work import Rows, Work


def metered(limit=None, unit="paper-nfe"):
    meter = Meter(limit, unit)
    weight = torch.randn(3, 3)
    return meter, meter.wrap("flow", lambda x: (x @ weight).tanh())


def test_forward_and_backward_rows():
    meter, fn = metered()
    x = torch.randn(5, 3)
    with torch.no_grad():
        fn(x)
    assert meter.work().flow == Rows(5, 0)
    out = fn(x.requires_grad_())
    assert meter.work().flow == Rows(10, 0)
    torch.autograd.grad(out.sum(), x)
    assert meter.work().flow == Rows(10, 5)


def test_only_the_differentiated_part_is_charged():
    meter, fn = metered()
    x = torch.randn(4, 3, requires_grad=True)
    used, _ = fn(x), fn(x)
    used.sum().backward()
    assert meter.work().flow == Rows(8, 4)


def test_checkpoint_recomputation_is_counted():
    meter, fn = metered()
    x = torch.randn(4, 3, requires_grad=True)
    checkpoint(fn, x, use_reentrant=False).sum().backward()
    assert meter.work().flow == Rows(8, 4)


def test_over_budget_stops_before_spending():
    meter, fn = metered(limit=10)
    fn(torch.randn(10, 3))
    with pytest.raises(OverBudget, match="exceeds 10"):
        fn(torch.randn(1, 3))
    assert meter.work().flow.forward == 10


def test_backward_counts_against_the_budget():
    _, fn = metered(limit=7)
    x = torch.randn(4, 3, requires_grad=True)
    out = fn(x)
    with pytest.raises(OverBudget):
        torch.autograd.grad(out.sum(), x)


def test_deadline():
    meter = Meter(deadline=-1.0)
    with pytest.raises(TimeIsUp):
        meter.charge("flow", "forward", 1)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: torch.func.grad(lambda x: f(x).sum())(torch.randn(2, 3)),
        lambda f: torch.func.vmap(lambda x: f(x[None])[0])(torch.randn(2, 3)),
        lambda f: torch.func.jvp(f, (torch.randn(2, 3),), (torch.randn(2, 3),)),
        lambda f: torch.func.jacrev(f)(torch.randn(2, 3)),
    ],
    ids=["grad", "vmap", "jvp", "jacrev"],
)
def test_function_transforms_are_refused(transform):
    meter, fn = metered()
    with pytest.raises(Unmeterable, match=r"torch\.func"):
        transform(fn)
    assert meter.work().flow.total == 0


def test_forward_mode_is_refused():
    _, fn = metered()
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(torch.randn(2, 3), torch.randn(2, 3))
        with pytest.raises(Unmeterable):
            fn(x)


def test_work_arithmetic_and_units():
    work = Work(flow=Rows(3, 1), map=Rows(2), reward=Rows(4, 4), decoder=Rows(7), oracle=Rows(1))
    assert work.cost("paper-nfe") == 3 + 1 + 2 + 8 + 1
    assert work.cost("model-nfe") == 3 + 2 + 1
    assert (work * 2 + work).same_rows(3 * work)
    assert not work.same_rows(2 * work)
    assert Work(flow=Rows(jvp=3)).cost("paper-nfe") == 6


def test_a_jvp_is_counted_and_agrees_with_differences():
    meter = Meter()
    weight = torch.randn(3, 3, dtype=torch.float64)
    jvp = meter.wrap_jvp("flow", lambda x, t: (x @ weight).tanh() * t[:, None], event_shape=(3,))
    x, dx = torch.randn(2, 5, 3, dtype=torch.float64)
    t = torch.full((5,), 0.3, dtype=torch.float64)
    value, derivative = jvp(x, t, dx)
    assert meter.work().flow == Rows(0, 0, 5)
    assert meter.work().cost("paper-nfe") == 10
    near = [jvp(x + h * dx, t, dx)[0] for h in (1e-5, -1e-5)]
    torch.testing.assert_close(derivative, (near[0] - near[1]) / 2e-5, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(value, (x @ weight).tanh() * 0.3)


def test_a_jvp_costs_twice_a_forwards_flops():
    meter = Meter(count_flops=True)
    net = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    fn, key = (lambda x, t: net(x)), ("jvp-test",)
    t = torch.zeros(5)
    meter.wrap_jvp("flow", fn, key, (3,))(torch.randn(5, 3), t, torch.randn(5, 3))
    assert meter.work().flops == 2 * (2 * 5 * (3 * 7 + 7 * 3))


def test_a_jvp_is_refused_under_transforms_and_beyond_the_budget():
    meter = Meter(limit=9)
    jvp = meter.wrap_jvp("flow", lambda x, t: x.square(), event_shape=(3,))
    t, x = torch.zeros(5), torch.randn(5, 3)
    with pytest.raises(Unmeterable):
        torch.func.grad(lambda x: jvp(x, t, x)[0].sum())(x)
    with pytest.raises(OverBudget):
        jvp(x, t, x)


class Shares(torch.nn.Module):
    """Conditions on time once where all rows share it, as the networks here do."""

    def __init__(self):
        super().__init__()
        self.time, self.data = torch.nn.Linear(1, 8), torch.nn.Linear(3, 8)

    def forward(self, x, t):
        shared = bool((t == t[0]).all())
        return (self.data(x) + self.time((t[:1] if shared else t)[:, None])).sum(-1)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("train", [False, True])
def test_times_that_rows_share_have_a_price_of_their_own(order, train):
    """Whatever was priced first: one time, a time per row, and times in blocks of equal ones."""
    net, rows = Shares().requires_grad_(train), 12
    times = [torch.full((rows,), 0.5), torch.linspace(0, 1, rows), torch.arange(rows) // 6 / 2]
    key = ("shared times", str(order), train)
    for k in order:
        meter = Meter(count_flops=True)
        fn = meter.wrap("flow", net, key=key, trained=lambda: list(net.parameters()))
        x = torch.randn(rows, 3)

        def run(k=k, fn=fn, x=x):
            out = fn(x, times[k])
            if train:
                out.sum().backward()

        run()
        assert meter.work().flops == counted(lambda k=k, x=x: _plain(net, x, times[k], train))


def _plain(net, x, t, train):
    out = net(x, t)
    if train:
        out.sum().backward()


def test_what_a_first_call_computes_once_is_not_in_the_price():
    """A reward that encodes its prompt when it is first asked costs its pictures' rows only."""
    known = []

    def reward(x):
        if not known:
            known.append(torch.ones(50, 40) @ torch.ones(40, 30))
        return (x @ torch.ones(3, 2)).sum(-1)

    meter = Meter(count_flops=True)
    meter.wrap("reward", reward, key=("remembers",))(torch.ones(10, 3))
    assert meter.work().flops == 10 * 2 * 3 * 2
