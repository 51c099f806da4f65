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
from typing import Any, NoReturn

from torch import Tensor, nn

from bench.core.metering import Meter
from bench.core.paths import Interpolant
from bench.core.protocols import Condition
from bench.core.refusals import Unmeterable


def _part_called(*_: Any, **__: Any) -> NoReturn:
    """The forward of every part of a twin."""
    raise Unmeterable(
        "a part of a metered flow was called; only the whole flow's velocity is counted"
    )


class MeteredModule(nn.Module):
    """A flow that can be trained, and whose forward and backward rows are counted.

    Made by `metered_clone`.  Parameters, state dict, modes and casts are those of a flow's class,
    which stands behind this one; `velocity` and `forward` are the counted ones.
    """

    event_shape: tuple[int, ...]
    interpolant: Interpolant
    _ledger: tuple[Meter, Condition, tuple[Any, ...], int]
    """Who is charged; the condition of calls that give none; the key of prices; the cost."""
    _network: nn.Module
    _parts: tuple[nn.Module, ...]

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), counted; x is (batch, *event_shape), t is (batch,).

        Raises OverBudget before anything is computed beyond the limit, and Unmeterable where the
        call, or later its backward, cannot be counted.
        """
        self._lead()
        meter, own, key, cost = self._ledger
        wrapped = meter.wrap(
            "flow",
            self._network.velocity,  # type: ignore[arg-type]
            cost,
            key,
            self.event_shape,
            lambda: list(self.parameters()),
        )
        return wrapped(x, t, own if condition is None else condition)

    def forward(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """The velocity."""
        return self.velocity(x, t, condition)

    def _lead(self) -> None:
        """Pass the modes on to the network, whose modules are those of this twin, one by one."""
        parts = tuple(self.modules())
        if parts != self._parts:
            raise Unmeterable("the modules of a metered flow are fixed; none can be put into it")
        for part, real in zip(parts, self._network.modules(), strict=True):
            if real.training != part.training:
                real.training = part.training


def metered_clone(
    flow: nn.Module,
    meter: Meter,
    condition: Condition = None,
    key: tuple[Any, ...] = (),
    cost: int = 1,
) -> MeteredModule:
    """A copy of a flow to train, metered; a flow that is wholly frozen is thawed.

    meter: the ledger that is charged, also by copies.  condition: that of calls that give none.
    key: names the flow in the table of FLOP prices.  cost: runs of the network per call.
    Raises TypeError if the module is not a flow.
    """
    missing = [name for name in ("velocity", "event_shape") if not hasattr(flow, name)]
    if missing:
        raise TypeError(f"{type(flow).__name__} is not a flow: it lacks {' and '.join(missing)}")
    network = copy.deepcopy(flow)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        network.requires_grad_(True)
    twin = _twin(network)
    # Past nn.Module's registration: the network is no part of the twin.
    vars(twin).update(_network=network, _ledger=(meter, condition, key, cost))
    vars(twin).update(_parts=tuple(twin.modules()))
    return twin


def _twin(network: nn.Module) -> MeteredModule:
    """A copy that shares the network's tensors, whatever is loaded, cast or swapped in either."""
    twin = copy.deepcopy(network, {id(p): p for p in (*network.parameters(), *network.buffers())})
    for part, real in zip(twin.modules(), network.modules(), strict=True):
        # The same dictionaries: torch has no public way for two modules to hold one state.
        part._parameters, part._buffers = real._parameters, real._buffers
        part.forward = _part_called
    del twin.forward
    # The flow's class, with the counted velocity in front.
    twin.__class__ = type(type(network).__name__, (MeteredModule, type(network)), {})
    assert isinstance(twin, MeteredModule)
    return twin
