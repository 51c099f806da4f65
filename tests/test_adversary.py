"""Adversaries: every trick to compute past the meter is counted to the row, or refused.

Tricks on a problem are methods, run as the runner runs them; tricks on a trainable flow are fits.
Each trick says what the ledger must hold; None means that it must raise Unmeterable.
"""

from __future__ import annotations

import copy
import math
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from bench.api import (
    FineTuning,
    FitProblem,
    Fitted,
    Method,
    NoParams,
    Problem,
    Samples,
    Work,
    backward,
    forward,
)
from bench.core.guarded import MeteredModule, Part, metered_clone
from bench.core.metering import Meter, OverBudget, Unmeterable
from bench.models.meta_flow_map import FlowNet
from bench.models.mixture import Mixture
from bench.runner.cells import Cell
from bench.runner.execute import sample_in_batches
from bench.runner.planning import expand
from bench.runner.staging import make_problem, stage
from bench.runner.suite import build_suite

B = 6
REFUSED = None


def cell_of(task: str) -> Cell:
    """A cell of B samples; its method is replaced by an adversary."""
    reward = "linear" if task == "gmm-paper" else "class-mixture"
    content = {
        "name": "t",
        "tasks": [task],
        "rewards": [reward],
        "methods": ["prior"],
        "n": B,
        "seeds": 1,
    }
    (row,) = expand(build_suite(content))
    return row.cell


def both(role: str, times: int = 1) -> Work:
    """B forward and B backward rows, `times` times."""
    return times * (forward(role, B) + backward(role, B))  # type: ignore[arg-type]


def half(x: Tensor) -> Tensor:
    return torch.full((len(x),), 0.5)


def kind(error: Exception) -> str:
    """Unmeterable or OverBudget, said in one sentence."""
    assert "\n" not in str(error)
    return "Unmeterable" if isinstance(error, Unmeterable) else "OverBudget"


# -- tricks on a problem --------------------------------------------------------------------------


class Adversary(Method[NoParams]):
    """A method that plays one trick and returns its initial noise."""

    expected: Work | None = REFUSED
    tasks = ("gmm-paper",)

    def sample(self, problem: Problem, n: int) -> Samples:
        x = problem.x0()
        self.trick(problem, x, half(x))
        return Samples(x)

    def trick(self, problem: Problem, x: Tensor, t: Tensor) -> None:
        raise NotImplementedError


ADVERSARIES: list[type[Adversary]] = []


def trick(expected: Work | None, *tasks: str) -> Callable[[Callable[..., Any]], None]:
    """Make an adversary of a function (problem, x, t)."""

    def register(played: Callable[..., Any]) -> None:
        members = {
            "trick": staticmethod(played),
            "expected": expected,
            "tasks": tasks or ("gmm-paper",),
        }
        ADVERSARIES.append(type(played.__name__, (Adversary,), members))

    return register


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
def traced_by_fx(p: Problem, x: Tensor, t: Tensor) -> None:
    make_fx(p.reward)(x)(x)


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
def lifted_limit(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.limit = None


@trick(REFUSED)
def deaf_meter(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.charge = lambda *args: None  # type: ignore[method-assign]


@trick(REFUSED)
def meter_started_again(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.__init__()  # type: ignore[misc]


@trick(REFUSED)
def refund(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.charge("flow", "forward", -B)


@trick(REFUSED)
def charge_that_is_no_number(p: Problem, x: Tensor, t: Tensor) -> None:
    p.meter.charge("flow", "forward", math.nan)  # type: ignore[arg-type]


@trick(REFUSED)
def pickled(p: Problem, x: Tensor, t: Tensor) -> None:
    pickle.loads(pickle.dumps(p.posterior)).draw(x, t, 5, p.noise_at(0))


def played(adversary: type[Adversary], task: str, limit: float | None = None) -> tuple[str, Work]:
    """How the trick ended ("done", or the name of the exception), and the ledger."""
    cell, meter = cell_of(task), Meter(limit)
    problem = make_problem(cell, stage(cell), meter, range(cell.n))
    try:
        sample_in_batches(adversary.create(), problem, cell)
    except (Unmeterable, OverBudget) as error:
        return kind(error), meter.work()
    return "done", meter.work()


CASES = [(adversary, task) for adversary in ADVERSARIES for task in adversary.tasks]


@pytest.mark.filterwarnings("ignore")  # recorders warn before they are refused
@pytest.mark.parametrize(("adversary", "task"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_trick_on_a_problem_is_counted_or_refused(adversary: type[Adversary], task: str) -> None:
    end, work = played(adversary, task)
    if adversary.expected is REFUSED:
        assert end == "Unmeterable"
        assert work.cost("paper-nfe") <= B  # a forward that was made before the trick
    else:
        assert end == "done"
        assert work.same_rows(adversary.expected), work


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


# -- tricks on a trainable flow -------------------------------------------------------------------


class Cheat(FineTuning[NoParams]):
    """A fit that plays one trick on the trainable flow."""

    expected: Work | None = REFUSED

    def fit(self, problem: FitProblem) -> Fitted:
        flow = problem.trainable_flow()
        assert isinstance(flow, MeteredModule)
        x = problem.problem.x0()
        self.trick(flow, x, half(x))
        return Fitted(flow.state_dict(), {})

    def trick(self, flow: MeteredModule, x: Tensor, t: Tensor) -> None:
        raise NotImplementedError


CHEATS: list[type[Cheat]] = []


def cheat(expected: Work | None) -> Callable[[Callable[..., Any]], None]:
    """Make a cheating fit of a function (flow, x, t)."""

    def register(played: Callable[..., Any]) -> None:
        members = {"trick": staticmethod(played), "expected": expected}
        CHEATS.append(type(played.__name__, (Cheat,), members))

    return register


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
def method_of_a_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.gaussian.skip(x.flatten(1), t, t, x.flatten(1), t)


@cheat(REFUSED)
def method_of_the_class(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    FlowNet.velocity(flow, x, t)  # type: ignore[arg-type]


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
def hook_on_a_submodule(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    stolen: list[nn.Module] = []
    flow.net.register_forward_hook(lambda module, args, out: stolen.append(module))
    flow(x, t)
    stolen[0](x.flatten(1), (t,))


@cheat(REFUSED)
def another_network_inside(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.net.leave = nn.Sequential(nn.Linear(256, 64))
    flow(x, t)


@cheat(REFUSED)
def another_network_appended(flow: MeteredModule, x: Tensor, t: Tensor) -> None:
    flow.net.blocks.append(nn.Identity())


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


def fitted(cls: type[Cheat], limit: float | None = None) -> tuple[str, Work]:
    """How the fit ended, and its ledger."""
    cell, meter = cell_of("digits"), Meter(limit)
    scene = stage(cell)
    flow = scene.task.flow
    assert isinstance(flow, nn.Module)
    problem = FitProblem(
        make_problem(cell, scene, meter, range(cell.n)),
        conditions=[None],
        data=lambda rows: torch.zeros(rows, *scene.task.event_shape),
        trainable_flow=lambda: metered_clone(flow, meter),
    )
    try:
        method = cls.create()
        assert isinstance(method, Cheat)
        method.fit(problem)
    except (Unmeterable, OverBudget) as error:
        return kind(error), meter.work()
    return "done", meter.work()


@pytest.mark.filterwarnings("ignore")  # recorders warn before they are refused
@pytest.mark.parametrize("cls", CHEATS, ids=lambda cls: cls.__name__)
def test_a_trick_on_a_trainable_flow_is_counted_or_refused(cls: type[Cheat]) -> None:
    end, work = fitted(cls)
    if cls.expected is REFUSED:
        assert end == "Unmeterable"
        assert work.cost("paper-nfe") <= B  # a forward that was made before the trick
    else:
        assert end == "done"
        assert work.same_rows(cls.expected), work


@pytest.mark.parametrize(
    "cls", [c for c in CHEATS if c.expected is not REFUSED], ids=lambda c: c.__name__
)
def test_a_counted_fit_stops_at_the_budget(cls: type[Cheat]) -> None:
    assert cls.expected is not None
    limit = cls.expected.cost("paper-nfe") - 1
    end, work = fitted(cls, limit)
    assert end == "OverBudget"
    assert work.cost("paper-nfe") == limit + 1 - B


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


def test_every_module_that_a_method_can_reach_is_a_shell() -> None:
    for flow in (small_flow(), Zoo()):
        own = metered_clone(flow, Meter())
        assert type(own) is MeteredModule and isinstance(own, Part)
        parts = list(own.modules())[1:]
        assert len(parts) == len(list(flow.modules())) - 1
        for part in parts:
            assert isinstance(part, Part)
            with pytest.raises(Unmeterable, match="part"):
                part()
        for part in (own, *parts):
            shown = [getattr(part, n) for n in dir(part) if n[0] != "_"]
            reached = {id(getattr(v, "__self__", v)) for v in shown}
            assert id(part._hidden) not in reached


def test_a_module_that_is_no_flow_is_refused() -> None:
    with pytest.raises(TypeError, match="lacks velocity and event_shape"):
        metered_clone(nn.Linear(2, 2), Meter())


def test_no_public_attribute_of_a_problem_leads_to_a_model() -> None:
    for task in ("gmm-paper", "digits"):
        cell = cell_of(task)
        scene, meter = stage(cell), Meter()
        problem = make_problem(cell, scene, meter, range(cell.n))
        raw = (nn.Module, Mixture, type(scene.task), type(scene.target.reward))
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
