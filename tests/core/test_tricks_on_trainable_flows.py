"""Cheating fits: every trick on a trainable flow is counted to the row, or refused."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from bench.api import backward, forward
from bench.core.metering import Meter
from bench.core.refusals import Unmeterable
from bench.core.trainable import MeteredModule, metered_clone
from tests.worlds.tricks import (
    CHEATS,
    REFUSED,
    B,
    Cheat,
    assert_counted_or_refused,
    both,
    cheat,
    fitted,
)


@cheat(forward("flow", 3 * B))
def every_name_of_the_velocity(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(flow(x, t), flow.velocity(x, t))
        flow.forward(x, t, condition="a label")


@cheat(both("flow"))
def swapped_parameters(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    own = {name: p.detach().clone() for name, p in flow.named_parameters()}
    own["net.leave.1.bias"] += 1
    for parameter in own.values():
        parameter.requires_grad_()
    torch.func.functional_call(flow, own, (x, t)).sum().backward()
    assert all(p.grad is not None for p in own.values())
    assert all(p.grad is None for p in flow.parameters())


@cheat(both("flow") + both("flow"))
def copied_module(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    own = copy.deepcopy(flow)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.zero_()
    own(x, t).sum().backward()
    flow(x, t).sum().backward()
    with pytest.raises(Unmeterable, match="part"):
        own.net(x, (t,))


@cheat(both("flow"))
def shallow_copy(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    copy.copy(flow)(x, t).sum().backward()


@cheat(forward("flow", B))
def averaged_model(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    average = torch.optim.swa_utils.AveragedModel(flow)
    average.update_parameters(flow)
    with torch.no_grad():
        average(x, t)


@cheat(both("flow") + forward("flow", B))
def checkpointed(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    checkpoint(flow, x, t, use_reentrant=False).sum().backward()


@cheat(both("flow") + forward("flow", B))
def checkpointed_reentrantly(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    checkpoint(flow, x.requires_grad_(), t, use_reentrant=True).sum().backward()


@cheat(forward("flow", B) + backward("flow", 2 * B))
def two_backwards(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    out = flow(x, t)
    out.sum().backward(retain_graph=True)
    torch.autograd.grad(out[0, 0].sum(), list(flow.parameters()))


@cheat(2 * both("flow"))
def compiled(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    fast = torch.compile(flow, backend="eager")
    for _ in range(2):
        fast(x, t).sum().backward()


@cheat(both("flow") + forward("flow", B))
def used_after_a_failure(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    with pytest.raises(RuntimeError):
        flow(x, t.double()[:, None])  # fails inside the network, after it was charged
    with pytest.raises(Unmeterable, match="part"):
        flow.net(x, (t,))
    flow(x, t).sum().backward()


@cheat(REFUSED)
def submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.net(x.flatten(1), (t,))


@cheat(REFUSED)
def forward_of_a_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.get_submodule("net.enter").forward(x.flatten(1))


@cheat(REFUSED)
def copied_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    copy.deepcopy(flow.net)(x.flatten(1), (t,))


@cheat(REFUSED)
def pickled_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    pickle.loads(pickle.dumps(flow.net))(x.flatten(1), (t,))


@cheat(REFUSED)
def pickled_module(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    pickle.loads(pickle.dumps(flow))(x, t)


@cheat(REFUSED)
def submodule_with_swapped_parameters(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    own = dict(flow.net.named_parameters())
    torch.func.functional_call(flow.net, own, (x.flatten(1), (t,)))


@cheat(REFUSED)
def submodule_in_another_module(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    nn.Sequential(nn.Flatten(), flow.get_submodule("net.enter"))(x)


@cheat(REFUSED)
def checkpointed_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    checkpoint(flow.net, x.flatten(1), (t,), use_reentrant=False)


@cheat(REFUSED)
def checkpointed_sequence(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    features = torch.zeros(B, 9)
    checkpoint_sequential(list(flow.net.embed.children()), 2, features, use_reentrant=False)


@cheat(REFUSED)
def submodule_in_another_thread_during_a_call(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    raised: list[Unmeterable] = []

    def run() -> None:
        try:
            flow.net(x.flatten(1), (t,))
        except Unmeterable as error:
            raised.append(error)

    class Meanwhile(nn.Module):
        event_shape, interpolant = x.shape[1:], flow.interpolant

        def velocity(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
            worker = threading.Thread(target=run)
            worker.start()
            worker.join()
            run()
            return x

    metered_clone(Meanwhile(), Meter())(x, t)
    assert len(raised) == 2
    raise raised[0]


@cheat(REFUSED)
def another_network_inside(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.net.leave = nn.Sequential(nn.Linear(256, 64))
    flow(x, t)


@cheat(REFUSED)
def another_network_appended(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.net.blocks.append(nn.Identity())
    flow(x, t)


@cheat(REFUSED)
def function_transform_of_the_module(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    def loss(own: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(flow, own, (x, t)).sum()

    torch.func.grad(loss)({name: p.detach() for name, p in flow.named_parameters()})


@cheat(REFUSED)
def ensemble(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    own, buffers = torch.func.stack_module_state([flow, copy.deepcopy(flow)])  # type: ignore[list-item]

    def call(own: Any, buffers: Any) -> Tensor:
        return torch.func.functional_call(flow, (own, buffers), (x, t))

    torch.func.vmap(call)(own, buffers)


@cheat(REFUSED)
def function_transform_of_a_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    enter = flow.get_submodule("net.enter")
    torch.func.jvp(enter, (x.flatten(1),), (x.flatten(1),))


@cheat(REFUSED)
def dual_numbers(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    with forward_ad.dual_level():
        flow(forward_ad.make_dual(x, x), t)


@cheat(REFUSED)
def gradient_of_a_gradient(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    torch.autograd.grad(flow(x, t).sum(), list(flow.parameters()), create_graph=True)


@cheat(REFUSED)
def gradients_in_a_batch(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    out = flow(x, t)
    basis = torch.ones(9, *out.shape)
    torch.autograd.grad(out, list(flow.parameters()), basis, is_grads_batched=True)


@cheat(REFUSED)
def traced(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    torch.jit.trace(flow, (x, t), check_trace=False)(x, t)


@cheat(REFUSED)
def traced_symbolically(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    torch.fx.symbolic_trace(flow)(x, t)


@cheat(REFUSED)
def exported(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    torch.export.export(flow, (x, t)).module()(x, t)


@cheat(REFUSED)
def times_for_more_rows(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow(x[:1], t)


@cheat(REFUSED)
def parameters_for_more_rows(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    class Scaled(nn.Module):
        event_shape, interpolant = x.shape[1:], flow.interpolant

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def velocity(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
            return self.scale * x

    wide = {"scale": torch.ones(100, *x.shape)}
    torch.func.functional_call(metered_clone(Scaled(), Meter()), wide, (x, t))


@pytest.mark.filterwarnings("ignore")  # recorders warn before they are refused
@pytest.mark.parametrize("cls", CHEATS, ids=lambda cls: cls.__name__)
def test_a_trick_on_a_trainable_flow_is_counted_or_refused(cls: type[Cheat]) -> None:
    assert_counted_or_refused(*fitted(cls), cls.expected)


@pytest.mark.parametrize(
    "cls", [c for c in CHEATS if c.expected is not REFUSED], ids=lambda c: c.__name__
)
def test_a_counted_fit_stops_at_the_budget(cls: type[Cheat]) -> None:
    assert cls.expected is not None
    limit = cls.expected.cost("paper-nfe") - 1
    end, work = fitted(cls, limit)
    assert end == "OverBudget"
    assert work.cost("paper-nfe") == limit + 1 - B
