"""A trainable flow whose every row is counted: what `FitProblem.trainable_flow()` returns.

A method that trains needs the network's parameters, names, modes and state, and must not run the
network, or a part of it, past the meter.  It is handed a shell: a tree of modules with the names of
the network's modules and the very same parameters and buffers, in which nothing can be called but
the flow's velocity.  The network stays behind the shell, so there is no state that says whether a
call is being counted: exceptions, threads and recomputation inside a backward cannot confuse it.

Counted: the velocity, also under `functional_call`, both kinds of activation checkpointing,
`torch.compile` and on deep copies, which charge the same meter.  Refused with Unmeterable: calls of
a part or of any other method, `torch.func` transforms, forward-mode AD, second derivatives,
recordings, hooks and modules put into the network.

Out of scope: the network can be dug out of private attributes, global module hooks, dispatch modes
or the nodes of an autograd graph; and the parameters have to be public, so that it can be rebuilt.
Such work goes round every meter, and `bench audit --flops` is there to see it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from bench.core.metering import Meter, Unmeterable
from bench.core.paths import Interpolant
from bench.core.protocols import Condition, Flow

Plain = bool | int | float | str
"""Attributes of the network that a shell shows."""


class Hidden(Unmeterable, AttributeError):
    """An attribute of the network that its shell does not show."""


class Part(nn.Module):
    """The shell of one module: its names, parameters, buffers and mode, but nothing to call.

    Iteration over children works, indexing and `isinstance` tests for layer types do not.
    """

    _hidden: nn.Module

    def __init__(self, module: nn.Module, seen: dict[int, Part]) -> None:
        object.__setattr__(self, "_hidden", module)  # not registered as a child
        mode = module.training
        super().__init__()
        self.training = mode
        # The same dictionaries: casts, loads and swaps (functional_call) reach the network.
        self._parameters, self._buffers = module._parameters, module._buffers
        self._non_persistent_buffers_set = module._non_persistent_buffers_set
        self._version = module._version
        seen[id(module)] = self
        for name, child in module._modules.items():
            known = seen.get(id(child))
            self._modules[name] = None if child is None else known or Part(child, seen)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Raise Unmeterable: a part cannot be called."""
        raise Unmeterable(
            f"a part of a metered flow ({self._get_name()}) was called; only the whole flow's "
            "velocity is counted"
        )

    @property
    def training(self) -> bool:
        """The network's own mode."""
        return self._hidden.training

    @training.setter
    def training(self, mode: bool) -> None:
        self._hidden.training = mode

    def train(self, mode: bool = True) -> Part:
        """Set the mode of the network's module, which may do so in its own way."""
        self._hidden.train(mode)
        return self

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Part:
        self._hidden._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._hidden._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._hidden._load_from_state_dict(*args)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_hidden" not in self.__dict__ or not hasattr(self._hidden, name):
                raise
        value = getattr(self._hidden, name)
        if isinstance(value, Plain):
            return value
        raise Hidden(f"'{name}' of a metered flow is hidden; only its velocity is counted")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            self.add_module(name, value)
        super().__setattr__(name, value)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Raise Unmeterable: the rows of another network would be counted as the flow's."""
        raise Unmeterable(f"the modules of a metered flow are fixed; '{name}' cannot be set")

    def _hook(self, *args: Any, **kwargs: Any) -> Any:
        raise Unmeterable("a metered flow takes no hooks; register them on tensors instead")

    register_module = add_module
    register_forward_pre_hook = register_forward_hook = _hook
    register_full_backward_pre_hook = register_full_backward_hook = _hook
    register_backward_hook = _hook

    def _get_name(self) -> str:
        return str(type(self._hidden).__name__)

    def extra_repr(self) -> str:
        return self._hidden.extra_repr()


class MeteredModule(Part):
    """A flow that can be trained, and whose forward and backward rows are counted.

    Parameters, state dict, modes and casts are those of the flow it hides, under the same names.

    Args:
        flow: the module to hide; hand over a copy that nobody else holds.
        meter: the ledger that is charged, also by copies.
        condition: the condition of calls that give none.
        key: names the flow in the table of FLOP prices.
    """

    def __init__(
        self,
        flow: nn.Module,
        meter: Meter,
        condition: Condition = None,
        key: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(flow, {})
        self._meter, self._condition, self._key = meter, condition, key

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._flow.event_shape

    @property
    def interpolant(self) -> Interpolant:
        return self._flow.interpolant

    @property
    def _flow(self) -> Flow:
        return cast(Flow, self._hidden)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x), counted; x is (batch, *event_shape), t is (batch,).

        Raises OverBudget before anything is computed beyond the limit, and Unmeterable where the
        call, or later its backward, cannot be counted.
        """
        given = self._condition if condition is None else condition

        def run(x: Tensor, t: Tensor) -> Tensor:
            return self._flow.velocity(x, t, given)

        wrapped = self._meter.wrap(
            "flow",
            run,
            key=self._key,
            event_shape=self.event_shape,
            trained=lambda: list(self.parameters()),
        )
        return wrapped(x, t)

    def forward(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """The velocity."""
        return self.velocity(x, t, condition)


def metered_clone(
    flow: nn.Module, meter: Meter, condition: Condition = None, key: tuple[Any, ...] = ()
) -> MeteredModule:
    """A copy of a flow to train, metered; a flow that is wholly frozen is thawed.

    Raises TypeError if the module is not a flow.
    """
    missing = [name for name in ("velocity", "event_shape") if not hasattr(flow, name)]
    if missing:
        raise TypeError(f"{type(flow).__name__} is not a flow: it lacks {' and '.join(missing)}")
    own = copy.deepcopy(flow)
    if not any(parameter.requires_grad for parameter in own.parameters()):
        own.requires_grad_(True)
    return MeteredModule(own, meter, condition, key)
