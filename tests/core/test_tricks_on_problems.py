"""Adversaries: every trick to compute past a problem's meter is counted to the row, or refused."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from bench.api import Problem, backward, forward
from tests.worlds.tricks import (
    ADVERSARIES,
    REFUSED,
    Adversary,
    B,
    assert_counted_or_refused,
    both,
    played,
    trick,
)


@trick(both("flow"), "digits", "gmm-paper")
def copied_flow(p: Problem, x: Tensor, t: Tensor) -> None:
    x = x.requires_grad_()
    copy.deepcopy(p.flow).velocity(x, t).sum().backward()


@trick(both("reward") + forward("oracle", 3 * B) + forward("oracle", B))
def copied_problem(p: Problem, x: Tensor, t: Tensor) -> None:
    mine = copy.deepcopy(p)
    mine.reward(x.clone().requires_grad_()).sum().backward()
    assert mine.posterior is not None and mine.oracle is not None
    mine.posterior.draw(x, t, 3, p.noise_at(0))
    mine.oracle.shift(x, t)


@trick(forward("oracle", 2 * B))
def shallow_copies(p: Problem, x: Tensor, t: Tensor) -> None:
    assert copy.copy(p.meter) is p.meter
    for own in (copy.copy(p.posterior), p.posterior):
        assert own is not None
        own.draw(x, t, 1, p.noise_at(0))


@trick(forward("flow", 20 * B))
def threads(p: Problem, x: Tensor, t: Tensor) -> None:
    def run() -> None:
        for _ in range(5):
            p.flow.velocity(x, t)

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@trick(2 * (both("flow") + forward("flow", B)), "digits")
def checkpointed_flow(p: Problem, x: Tensor, t: Tensor) -> None:
    x = x.requires_grad_()
    for reentrant in (False, True):
        checkpoint(p.flow.velocity, x, t, use_reentrant=reentrant).sum().backward()


@trick(forward("reward", B) + backward("reward", 3 * B))
def several_backwards(p: Problem, x: Tensor, t: Tensor) -> None:
    out = p.reward(x.requires_grad_())
    out.sum().backward(retain_graph=True)
    out[:1].sum().backward(retain_graph=True)  # a part of the rows costs a whole pass
    out.sum().backward()


@trick(REFUSED, "digits", "gmm-paper")
def grad_of_reward(p: Problem, x: Tensor, t: Tensor) -> None:
    torch.func.grad(lambda x: p.reward(x).sum())(x)


@trick(REFUSED, "digits", "gmm-paper")
def vmap_of_flow(p: Problem, x: Tensor, t: Tensor) -> None:
    torch.func.vmap(p.flow.velocity)(x[:, None], t[:, None])


@trick(REFUSED, "digits", "gmm-paper")
def jvp_of_map(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.flow_map is not None
    jump = p.flow_map.jump
    torch.func.jvp(lambda x: jump(x, 0 * t, t), (x,), (x,))


@trick(REFUSED)
def vmap_of_posterior(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.posterior is not None
    draw, noise = p.posterior.draw, p.noise_at(0)
    torch.func.vmap(lambda x: draw(x, t, 2, noise))(x.expand(9, *x.shape))


@trick(REFUSED)
def jacrev_of_oracle(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.oracle is not None
    shift = p.oracle.shift
    torch.func.jacrev(lambda x: shift(x, t))(x)


@trick(REFUSED)
def dual_numbers_in_posterior(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.posterior is not None
    with forward_ad.dual_level():
        p.posterior.draw(forward_ad.make_dual(x, x), t, 2, p.noise_at(0))


@trick(REFUSED)
def many_gradients_at_once(p: Problem, x: Tensor, t: Tensor) -> None:
    out = p.flow.velocity(x.requires_grad_(), t)
    basis = torch.eye(out.numel()).reshape(-1, *out.shape)
    torch.autograd.grad(out, x, basis, is_grads_batched=True)


@trick(REFUSED, "digits", "gmm-paper")
def second_derivative(p: Problem, x: Tensor, t: Tensor) -> None:
    x = x.requires_grad_()
    (g,) = torch.autograd.grad(p.reward(x).sum(), x, create_graph=True)
    (g * g).sum().backward()


@trick(REFUSED)
def jvp_by_double_backward(p: Problem, x: Tensor, t: Tensor) -> None:
    torch.autograd.functional.jvp(lambda x: p.flow.velocity(x, t), x, x)


@trick(REFUSED)
def traced_by_jit(p: Problem, x: Tensor, t: Tensor) -> None:
    torch.jit.trace(p.flow.velocity, (x, t), check_trace=False)(x, t)


@trick(REFUSED)
def traced_with_fake_tensors(p: Problem, x: Tensor, t: Tensor) -> None:
    make_fx(p.reward, tracing_mode="symbolic")(x)(x)


@trick(REFUSED, "digits", "gmm-paper")
def many_times_for_one_row(p: Problem, x: Tensor, t: Tensor) -> None:
    p.flow.velocity(x[:1], t)


@trick(REFUSED, "digits", "gmm-paper")
def many_contexts_for_one_row(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.flow_map is not None
    p.flow_map.velocity(x[:1], t[:1], t[:1], x, t)


@trick(REFUSED)
def rows_in_another_dimension(p: Problem, x: Tensor, t: Tensor) -> None:
    p.reward(x[None])


@trick(REFUSED)
def rows_in_another_dimension_of_a_flow(p: Problem, x: Tensor, t: Tensor) -> None:
    p.flow.velocity(x.expand(B, *x.shape), t)


class Liar(Tensor):
    """A tensor that says it has no rows."""

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return torch.Size((0, *super().shape[1:]))


@trick(REFUSED)
def lying_tensor(p: Problem, x: Tensor, t: Tensor) -> None:
    p.reward(x.as_subclass(Liar))


@trick(REFUSED)
def noise_with_more_draws(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.posterior is not None
    p.posterior.draw(x, t, 1, lambda name, shape: torch.zeros(B, 50, *shape[1:]))


@trick(REFUSED)
def a_fraction_of_a_draw(p: Problem, x: Tensor, t: Tensor) -> None:
    assert p.posterior is not None
    little: Any = 1e-9
    p.posterior.draw(x, t, little, lambda name, shape: torch.zeros(B, 50, *shape[1:]))


@trick(REFUSED)
def refund(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.charge("flow", "forward", -B)


@trick(REFUSED)
def charge_that_is_no_number(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.charge("flow", "forward", math.nan)  # type: ignore[arg-type]


@trick(REFUSED)
def pickled(p: Problem, x: Tensor, t: Tensor) -> None:
    pickle.loads(pickle.dumps(p.posterior)).draw(x, t, 5, p.noise_at(0))


CASES = [(adversary, task) for adversary in ADVERSARIES for task in adversary.tasks]


@pytest.mark.filterwarnings("ignore")  # recorders warn before they are refused
@pytest.mark.parametrize(("adversary", "task"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_trick_on_a_problem_is_counted_or_refused(adversary: type[Adversary], task: str) -> None:
    assert_counted_or_refused(*played(adversary, task), adversary.expected)


@pytest.mark.parametrize(
    "adversary",
    [a for a in ADVERSARIES if a.expected is not REFUSED and a.__name__ != "threads"],
    ids=lambda a: a.__name__,
)
def test_a_counted_trick_stops_at_the_budget(adversary: type[Adversary]) -> None:
    assert adversary.expected is not None
    limit = adversary.expected.cost("paper-nfe") - 1
    end, work = played(adversary, adversary.tasks[0], limit)
    assert end == "OverBudget"
    assert work.cost("paper-nfe") <= limit
