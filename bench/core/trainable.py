"""A trainable flow whose every row is counted: what `FitProblem.trainable_flow()` returns.

A method that trains needs the network's parameters, names, modes and state, and must not run the
network, or a part of it, past the meter by mistake.  It is handed a twin: a copy of the network
that holds the very same parameters and buffers, in which nothing can be called but the velocity.
The network itself stays behind the twin, so there is no state that says whether a call is being
counted: exceptions, threads and recomputation inside a backward cannot confuse it.

Counted: the velocity, also under `functional_call`, both kinds of activation checkpointing,
`torch.compile` and on deep copies, which charge the same meter.  Refused with Unmeterable: calls of
a part, modules put into the twin, and what `bench.core.refusals` lists.  Hooks on parts never run.

Who wants to can rebuild the network from its parameters, or dig it out: such work goes round every
meter, and `bench audit --flops` is there to see it.
"""

from __future__ import annotations

import copy
from typing import Any, NoReturn, cast

from torch import Tensor, nn

from bench.core.conditions import Turn
from bench.core.metering import Meter
from bench.core.parts import Cost
from bench.core.paths import Interpolant
from bench.core.place import HOST, Place
from bench.core.protocols import Condition, Flow
from bench.core.refusals import Unmeterable
from bench.core.workers import ALONE, WorkerGroup


class MeteredModule(nn.Module):
    """A flow that can be trained, and whose forward and backward rows are counted.

    Parameters, state dict, modes and casts are those of the flow, under the same names.

    Args:
        flow: the network to hide; hand over a copy that nobody else holds.
        meter: the ledger that is charged, also by copies.
        condition: the condition of calls that give none, or the `Turn` that says which.
        key: names the flow in the table of FLOP prices.
        cost: runs of the network per call, or at a time.
        place: where the network lies, and its precision; its parameters stay as they are.
    """

    _network: nn.Module

    def __init__(
        self,
        flow: nn.Module,
        meter: Meter,
        condition: Condition = None,
        key: tuple[Any, ...] = (),
        cost: Cost = 1,
        place: Place = HOST,
    ) -> None:
        super().__init__()
        vars(self).update(vars(_twin(flow)))
        vars(self)["_network"] = flow  # past nn.Module's registration: it is no part of the twin
        self._parts = tuple(self.modules())[1:]
        self._meter, self._condition, self._key, self._cost = meter, condition, key, cost
        self._place = place
        self.event_shape: tuple[int, ...] = self._flow.event_shape
        self.interpolant: Interpolant = self._flow.interpolant

    @property
    def _flow(self) -> Flow:
        return cast(Flow, self._network)

    @property
    def behind(self) -> nn.Module:
        """The network itself, for who decides how its weights are held: its calls count nothing."""
        return self._network

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), counted; x is (batch, *event_shape), t is (batch,).

        Raises OverBudget before anything is computed beyond the limit, and Unmeterable where the
        call, or later its backward, cannot be counted.
        """
        self._pass_modes_on()
        own = self._condition.condition if isinstance(self._condition, Turn) else self._condition
        wrapped = self._meter.wrap(
            "flow",
            self._place.network(self._flow.velocity),
            self._cost,
            self._key,
            self.event_shape,
            trained=lambda: list(self.parameters()),
        )
        return wrapped(x, t, own if condition is None else condition)

    def forward(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """The velocity."""
        return self.velocity(x, t, condition)

    def _pass_modes_on(self) -> None:
        """Give the network's modules the modes of their twins."""
        _, *parts = self.modules()
        if tuple(parts) != self._parts:
            raise Unmeterable("the modules of a metered flow are fixed; none can be put into it")
        for part, real in zip((self, *parts), self._network.modules(), strict=True):
            if real.training != part.training:
                real.training = part.training


def _twin(network: nn.Module) -> nn.Module:
    """A copy that shares the network's tensors, whatever is loaded, cast or swapped in either."""
    twin = copy.deepcopy(network, {id(p): p for p in (*network.parameters(), *network.buffers())})
    for part, real in zip(twin.modules(), network.modules(), strict=True):
        # The same dictionaries: torch has no public way for two modules to hold one state.
        part._parameters, part._buffers = real._parameters, real._buffers
        if part is not twin:
            part.forward = _refuse_part
    return twin


def _refuse_part(*_: Any, **__: Any) -> NoReturn:
    """The forward of every part."""
    raise Unmeterable(
        "a part of a metered flow was called; only the whole flow's velocity is counted"
    )


def metered_clone(
    flow: nn.Module,
    meter: Meter,
    condition: Condition = None,
    key: tuple[Any, ...] = (),
    cost: Cost = 1,
    place: Place = HOST,
    group: WorkerGroup = ALONE,
) -> MeteredModule:
    """A copy of a flow to train, metered; a flow that is wholly frozen is thawed.

    It lies where `group` wants it, whose trainer divides it or does not.  Raises TypeError if the
    module is not a flow.
    """
    missing = [name for name in ("velocity", "event_shape") if not hasattr(flow, name)]
    if missing:
        raise TypeError(f"{type(flow).__name__} is not a flow: it lacks {' and '.join(missing)}")
    own = copy.deepcopy(flow).to(group.home(place.device))
    if not any(parameter.requires_grad for parameter in own.parameters()):
        own.requires_grad_(True)
    return MeteredModule(own, meter, condition, key, cost, place)
