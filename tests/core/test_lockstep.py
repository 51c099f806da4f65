"""Runs in lock step get what they get alone, and their calls are one."""

import pytest
import torch

from bench.core.conditions import RowConditions
from bench.core.lockstep import Lockstep
from bench.core.rows import in_rows

NAME = ("flow",)


class Doubled:
    """x -> w x + condition, which counts its calls, its rows and the passes back through it."""

    def __init__(self):
        self.calls, self.rows, self.backwards = 0, [], 0

    def __call__(self, x, condition=0.0):
        self.calls += 1
        self.rows.append(len(x))
        if isinstance(condition, RowConditions):
            told = torch.tensor(condition.conditions)[condition.index(x.device)]
            condition = told[:, None]
        out = 2 * x.square() + condition
        if out.requires_grad:
            out.register_hook(self._back)
        return out

    def _back(self, slope):
        self.backwards += 1
        return slope


def start(k, rows=2):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(k))


def test_calls_of_all_runs_are_one_call_on_all_their_rows():
    fn = Doubled()

    def work(k):
        def run(lane):
            flow = lane.joined(NAME, fn, spread=True)
            return flow(flow(start(k, rows=k + 1), float(k)), float(k))

        return run

    found = Lockstep().run([work(k) for k in range(3)])
    assert (fn.calls, fn.rows) == (2, [6, 6])
    for k, x in enumerate(found):
        alone = Doubled()
        assert torch.equal(x, alone(alone(start(k, rows=k + 1), float(k)), float(k)))


def test_a_function_that_hears_one_condition_is_called_once_for_each():
    fn = Doubled()

    def work(k):
        return lambda lane: lane.joined(NAME, fn, spread=False)(start(k), float(k // 2))

    Lockstep().run([work(k) for k in range(4)])
    assert fn.rows == [4, 4]


def test_gradients_are_one_pass_through_the_graph_that_runs_share():
    fn = Doubled()

    def work(k):
        def run(lane):
            x = start(k).requires_grad_()
            y = lane.joined(NAME, fn, spread=True)(x, 0.0)
            (slope,) = torch.autograd.grad((y * (k + 1)).sum(), x)
            return slope

        return run

    found = Lockstep().run([work(k) for k in range(3)])
    assert (fn.calls, fn.backwards) == (1, 1)
    for k, slope in enumerate(found):
        assert torch.allclose(slope, 4 * (k + 1) * start(k))


@pytest.mark.parametrize("backward", [False, True])
def test_a_run_that_differentiates_before_the_others_leaves_them_their_graph(backward):
    fn = Doubled()

    def work(k):
        def run(lane):
            flow = lane.joined(NAME, fn, spread=True)
            x = start(k).requires_grad_()
            y = flow(x, 0.0)
            if k:
                flow(x.detach(), 1.0)
            if backward and not k:
                y.sum().backward()
                return x.grad
            return torch.autograd.grad(y.sum(), x)[0]

        return run

    for k, slope in enumerate(Lockstep().run([work(k) for k in range(3)])):
        assert torch.allclose(slope, 4 * start(k))


def test_runs_whose_ways_part_meet_again():
    """A call more of one of them, and the next ones are joint as before."""
    fn = Doubled()

    def work(k):
        def run(lane):
            flow, other = (lane.joined((n,), fn, spread=True) for n in ("flow", "reward"))
            flow(start(k))
            if k == 1:
                other(start(k))
            for _ in range(3):
                flow(start(k))

        return run

    Lockstep().run([work(k) for k in range(3)])
    assert fn.rows[0] == 6
    assert fn.rows.count(6) >= 3
    assert sum(fn.rows) == 2 * (3 * 4 + 1)


def test_no_gradient_is_kept_where_a_run_asks_for_none():
    fn, seen = Doubled(), []

    def work(lane):
        with torch.no_grad():
            seen.append(lane.joined(NAME, fn, spread=True)(start(0).requires_grad_()))

    Lockstep().run([work, work])
    assert fn.calls == 1
    assert not any(y.requires_grad for y in seen)


def test_runs_may_write_into_their_own_rows():
    fn = Doubled()

    def work(lane):
        y = lane.joined(NAME, fn, spread=True)(start(0).requires_grad_())
        return y.mul_(3)

    assert torch.allclose(*(y.detach() / 6 for y in Lockstep().run([work, work])))


def test_an_error_of_one_run_ends_all_and_is_raised():
    ended = []

    def work(k):
        def run(lane):
            flow = lane.joined(NAME, Doubled(), spread=True)
            try:
                for step in range(3):
                    flow(start(k))
                    if (k, step) == (1, 1):
                        raise FloatingPointError("run 1 diverged")
            except Exception:
                ended.append(k)
                raise
            finally:
                ended.append(-k)

        return run

    with pytest.raises(FloatingPointError, match="run 1 diverged"):
        Lockstep().run([work(k) for k in range(3)])
    assert ended == [1, -1, 0, -2]


def test_an_error_of_a_joint_call_is_everybodys():
    def broken(x):
        raise ValueError(f"{len(x)} rows")

    caught = []

    def work(lane):
        try:
            lane.joined(NAME, broken, spread=True)(start(0))
        except ValueError as error:
            caught.append(str(error))

    Lockstep().run([work, work])
    assert caught == ["4 rows", "4 rows"]


def test_calls_that_do_not_fit_are_shared_by_fewer_runs():
    """The size that fits is remembered; a run whose own rows do not fit is told."""
    fn = Doubled()

    def small(x):
        if len(x) > 4:
            raise torch.OutOfMemoryError
        return fn(x)

    def work(rows):
        def run(lane):
            flow = lane.joined(NAME, small, spread=True)
            flow(start(0, rows))
            return flow(start(0, rows))

        return run

    Lockstep().run([work(2)] * 4)
    assert fn.rows == [4] * 4
    with pytest.raises(torch.OutOfMemoryError):
        Lockstep().run([work(2), work(5)])


def test_random_numbers_of_a_run_do_not_depend_on_the_others():
    def work(calls):
        def run(lane):
            flow = lane.joined(NAME, Doubled(), spread=True)
            drawn = []
            for _ in range(calls):
                drawn.append(torch.randn(2))
                flow(start(0))
            return torch.stack(drawn)

        return run

    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = Lockstep().run([work(k) for k in (3, 1, 2)])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0][:1], found[1])
    assert torch.equal(found[0][:2], found[2])


def test_a_gradient_that_does_not_fit_is_everybodys_error_and_makes_calls_smaller():
    """Whoever halves its own rows then, as `in_rows` does, finds that they fit."""
    sizes = []

    class Heavy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            sizes.append(len(x))
            return x * 2

        @staticmethod
        def backward(ctx, slope):
            if len(slope) > 2:
                raise torch.OutOfMemoryError
            return 2 * slope

    def work(lane):
        flow = lane.joined(NAME, Heavy.apply, spread=True)

        def slope(rows):
            x = rows.detach().requires_grad_()
            return torch.autograd.grad(flow(x).sum(), x)[0]

        return in_rows(slope, start(0, 4), key="heavy")

    for found in Lockstep().run([work, work]):
        assert torch.equal(found, torch.full((4, 3), 2.0))
    assert sizes[0] == 8
    assert sizes[-1] == 2
