"""The trainable flow trains and loads as the plain one does, and no part of it computes alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.api import forward
from bench.core.metering import Meter, OverBudget
from bench.core.refusals import Unmeterable
from bench.core.trainable import MeteredModule, metered_clone
from bench.models.meta_flow_map import FlowNet
from bench.models.mixture import Mixture
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem
from tests.worlds.tricks import B, both, cell_of

# -- the trainable flow is otherwise the flow -----------------------------------------------------


def small_flow() -> FlowNet:
    """A flow with weights that are not zero."""
    torch.manual_seed(0)
    flow = FlowNet((2,), width=16, depth=2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow


def points() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(B, 2, generator=g), torch.rand(B, generator=g)


def test_names_values_and_gradients_are_the_plain_ones() -> None:
    plain, meter, (x, t) = small_flow(), Meter(), points()
    own = metered_clone(plain, meter)
    assert [n for n, _ in own.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert [n for n, _ in own.named_buffers()] == [n for n, _ in plain.named_buffers()]
    assert [n for n, _ in own.named_modules()] == [n for n, _ in plain.named_modules()]
    assert own.state_dict()._metadata == plain.state_dict()._metadata  # type: ignore[attr-defined]
    assert "(enter): Linear(in_features=2" in str(own)
    out, expected = own(x, t), plain.velocity(x, t)
    assert torch.equal(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    for p, q in zip(own.parameters(), plain.parameters(), strict=True):
        assert p is not q
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)
    assert meter.work().same_rows(both("flow"))


def train(flow: MeteredModule, steps: int) -> list[float]:
    """Losses of a regression of the velocity on a constant; B forward and B backward rows each."""
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    losses, (x, t) = [], points()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (flow(x, t) - 1).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_the_clone_trains_and_its_state_loads_in_the_original() -> None:
    plain, meter, (x, t) = small_flow().requires_grad_(False), Meter(), points()
    before = copy.deepcopy(plain.state_dict())
    own = metered_clone(plain, meter)
    losses = train(own, 30)
    assert losses[-1] < 0.2 * losses[0]
    assert meter.work().same_rows(30 * both("flow"))
    assert all(torch.equal(before[k], v) for k, v in plain.state_dict().items())
    state = pickle.loads(pickle.dumps(own.state_dict()))
    plain.load_state_dict(state, strict=True)
    assert torch.equal(plain.velocity(x, t), own(x, t))


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_loaded_into_the_clone_is_what_it_computes(assign: bool) -> None:
    other, meter, (x, t) = small_flow(), Meter(), points()
    own = metered_clone(FlowNet((2,), width=16, depth=2), meter)
    own.load_state_dict(other.state_dict(), strict=True, assign=assign)
    assert torch.equal(own(x, t), other.velocity(x, t))
    assert meter.work().same_rows(forward("flow", B))
    with pytest.raises(RuntimeError, match="Missing key"):
        own.load_state_dict({})


def test_training_stops_in_the_middle_of_a_backward() -> None:
    meter = Meter(5 * 2 * B + B)
    flow = metered_clone(small_flow(), meter)
    train(flow, 5)
    flow.zero_grad()
    with pytest.raises(OverBudget, match="flow backward"):
        train(flow, 1)
    assert all(p.grad is None for p in flow.parameters())
    assert meter.work().same_rows(5 * both("flow") + forward("flow", B))
    with pytest.raises(OverBudget, match="flow forward"):
        flow(*points())


def test_training_stops_in_the_recomputation_of_a_checkpoint() -> None:
    meter, (x, t) = Meter(B), points()
    flow = metered_clone(small_flow(), meter)
    out = checkpoint(flow, x, t, use_reentrant=False)
    with pytest.raises(OverBudget):
        out.sum().backward()
    assert all(p.grad is None for p in flow.parameters())


class Zoo(nn.Module):
    """A flow of awkward modules: tied, empty, stateful, with a mode of its own."""

    event_shape = (2,)
    interpolant = None

    def __init__(self) -> None:
        super().__init__()
        self.first, self.empty, self.nothing = nn.Linear(2, 2), nn.Sequential(), None
        self.tied, self.norm, self.size = self.first, nn.BatchNorm1d(2), 7
        self.rnn = nn.GRU(2, 2, batch_first=True)
        self.register_buffer("unsaved", torch.ones(2), persistent=False)

    def velocity(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        inner = checkpoint(self.empty, self.tied(self.first(x)), use_reentrant=False)
        out: Tensor = self.rnn(self.norm(inner)[:, None])[0][:, 0] * self.unsaved
        return out if condition is None else out + condition


def test_awkward_modules_keep_their_ways() -> None:
    plain, meter, (x, t) = Zoo(), Meter(), points()
    own = copy.deepcopy(metered_clone(plain, meter, condition=1.0))
    assert own.size == 7 and not hasattr(own, "absent")
    assert list(own.state_dict()) == list(plain.state_dict())
    assert len(list(own.parameters())) == len(list(plain.parameters()))
    for flow in (own, plain):
        flow.double().train()
    assert torch.equal(own(x.double(), t), plain.velocity(x.double(), t) + 1)
    assert torch.equal(own.norm.running_mean, plain.norm.running_mean)
    for flow in (own, plain):
        flow.eval()
    assert not own.norm.training
    out = own.velocity(x.double(), t, 2.0)
    assert torch.equal(out, plain.velocity(x.double(), t) + 2)
    out.sum().backward()
    assert meter.work().same_rows(both("flow") + forward("flow", B))
    with pytest.raises(Unmeterable, match="part"):
        own.empty(x)


def test_no_part_that_a_method_can_reach_computes() -> None:
    for flow in (small_flow(), Zoo()):
        own = metered_clone(flow, Meter())
        parts = list(own.modules())[1:]
        assert [type(part) for part in parts] == [type(real) for real in list(flow.modules())[1:]]
        for part in parts:
            for call in (part, part.forward):
                with pytest.raises(Unmeterable, match="part"):
                    call()
        public = [vars(part) for part in (own, *parts)]
        hidden = set(own._network.modules())
        assert not [n for seen in public for n, v in seen.items() if n[0] != "_" and v in hidden]


def test_the_mode_of_a_part_is_the_networks() -> None:
    """As a fit sets that freezes the statistics of its normalisations."""
    plain, meter, (x, t) = Zoo().train(), Meter(), points()
    own = metered_clone(plain, meter)
    for flow in (own, plain):
        flow.norm.eval()
    assert torch.equal(own(x, t), plain.velocity(x, t))
    assert torch.equal(own.norm.running_mean, torch.zeros(2))


def test_a_module_that_is_no_flow_is_refused() -> None:
    with pytest.raises(TypeError, match="lacks velocity and event_shape"):
        metered_clone(nn.Linear(2, 2), Meter())


def test_no_public_attribute_of_a_problem_leads_to_a_model() -> None:
    for task in ("gmm-paper", "digits"):
        cell = cell_of(task)
        instances, meter = instances_of(cell), Meter()
        problem = make_problem(cell, instances, meter, range(cell.n))
        raw = (nn.Module, Mixture, type(instances.task), type(instances.target.reward))
        reached = public(problem, {})
        assert id(meter) in reached and len(reached) > 10
        assert not [v for v in reached.values() if isinstance(v, raw)]


def public(thing: Any, seen: dict[int, Any]) -> dict[int, Any]:
    """Everything that public attributes, bound methods and containers lead to, by id."""
    own = type(thing).__module__.split(".")[0] in ("bench", "rewards", "methods")
    if id(thing) in seen or not (own or callable(thing) or isinstance(thing, (tuple, list))):
        return seen
    seen[id(thing)] = thing
    parts = list(thing) if isinstance(thing, (tuple, list)) else [getattr(thing, "__self__", None)]
    if own:
        parts += [getattr(thing, name) for name in dir(thing) if not name.startswith("_")]
    for part in parts:
        public(part, seen)
    return seen
