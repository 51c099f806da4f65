"""Where networks run and how precisely: the device, and the precision of their products.

A place wraps networks, decoders and learned rewards: what goes in is moved to the device, products
of matrices are computed in the place's precision (torch's autocast, which keeps norms and softmax
wide), and what comes out is float32.  The state, its times, the weights of particles and all
statistics stay float32 or float64: a state kept in bfloat16 is 24 % off after 250 steps, networks
that run in it 0.1 %.  Closed forms have no networks and stay as they are.

The place of a laptop, float32 on the CPU, wraps nothing.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from bench.core.cells import PRECISIONS, known_precision
from bench.core.devices import check_device, on_device
from bench.core.params import UserError
from bench.core.tasks import Reward, Task

PRECISION: Mapping[str, torch.dtype] = {name: getattr(torch, name) for name in PRECISIONS}


@dataclass(frozen=True)
class Place:
    """A device (cpu, cuda or cuda:<number>) and the precision of the networks there."""

    device: str = "cpu"
    dtype: str = "float32"

    @property
    def precision(self) -> torch.dtype:
        """The precision of networks; UserError for an unknown one."""
        return PRECISION[known_precision(self.dtype)]

    @property
    def narrow(self) -> bool:
        """Whether networks run in less than float32."""
        return self.precision != torch.float32

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]

    def check(self) -> None:
        """Raises UserError unless the device is here and has the precision.

        From here on float32 is float32 there: torch would round the products of convolutions to 10
        bits (TF32) on its own.
        """
        precision = self.precision
        check_device(self.device)
        if precision == torch.float16 and self.kind == "cpu":
            raise UserError("a CPU only emulates float16: use --dtype bfloat16 or --device cuda")
        if precision == torch.bfloat16 and self.kind == "cuda" and not _has_bfloat16():
            raise UserError(f"'{self.device}' has no bfloat16: use --dtype float16 or float32")
        if self.kind == "cuda":
            torch.backends.cudnn.allow_tf32 = False

    def here(self, value: Any) -> Any:
        """Every tensor of a tree of values on this device."""
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), value)

    def network(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` at this place: inputs moved here, products in its precision, float32 out."""
        return fn if self == HOST else self._wrapped(fn, self.narrow)

    def closed_form(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` on this device, in the precision of its inputs."""
        return fn if self == HOST else self._wrapped(fn, False)

    def of(self, owner: object, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn`, a callable of `owner`: a network if it holds one, else a closed form."""
        if self == HOST:
            return fn
        return self._wrapped(fn, self.narrow and any(True for _ in modules_in(owner)))

    def _wrapped(self, fn: Callable[..., Any], narrow: bool) -> Callable[..., Any]:
        def placed(*args: Any) -> Any:
            with self._autocast(narrow):
                return tree_map_only(Tensor, _widened, fn(*self.here(args)))

        return placed

    def _autocast(self, narrow: bool) -> AbstractContextManager[Any]:
        return torch.autocast(self.kind, self.precision) if narrow else nullcontext()

    def measuring(self) -> AbstractContextManager[Any]:
        """The context of whoever meets samples from here with data that lie on the CPU."""
        return on_device(self.device)

    def carry(self, *owners: object) -> None:
        """Bring what callables hold to the device: networks, and the tensors of closed forms.

        Of a bound method only the networks: its owner may hold data, which stay where they are.
        What is kept elsewhere, in a module's cache, has to follow its input itself.
        """
        if self.kind == "cpu" and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return  # nothing ever left
        for owner in owners:
            for held in list(_held(owner, {})):
                if isinstance(held, nn.Module):
                    held.to(self.device)
                elif not isinstance(owner, types.MethodType):
                    _carry_tensors(held, self.device)

    def reward(self, reward: Reward[Any], task: Task[Any]) -> Reward[Any]:
        """The reward at this place, and its judge; one in closed form keeps its precision."""
        if self == HOST:
            return reward
        wrap = self.network if reward.quadratic(task) is None else self.closed_form
        return cast(Reward[Any], PlacedReward(reward, wrap))


HOST = Place()
"""float32 on the CPU."""


class PlacedReward:
    """A reward whose scores, and those of its judge, are computed at a place."""

    def __init__(self, reward: Reward[Any], wrap: Callable[..., Callable[..., Any]]) -> None:
        self._reward = reward
        self._score, self.judge = wrap(reward), wrap(reward.judge)
        self.score_rows = wrap(reward.score_rows)

    def __call__(self, x: Tensor, condition: Any) -> Tensor:
        """(batch,), float32."""
        scores: Tensor = self._score(x, condition)
        return scores

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_reward"), name)


def _widened(out: Tensor) -> Tensor:
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


def _has_bfloat16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


# -- what an object holds -------------------------------------------------------------------------


def modules_in(owner: object) -> Iterator[nn.Module]:
    """The networks that an object holds, the outermost ones."""
    return (held for held in _held(owner, {}) if isinstance(held, nn.Module))


def _held(owner: object, seen: dict[int, object]) -> Iterator[object]:
    """An object and all that it holds in attributes, containers, closures; not inside networks."""
    if owner is None or id(owner) in seen or isinstance(owner, _LEAVES):
        return
    seen[id(owner)] = owner
    yield owner
    if not isinstance(owner, nn.Module):
        for part in _parts(owner):
            yield from _held(part, seen)


_EMPTY = types.CellType()
_LEAVES = (str, bytes, int, float, complex, type, types.ModuleType, torch.dtype, torch.device)


def _parts(owner: object) -> list[object]:
    if isinstance(owner, Mapping):
        return list(owner.values())
    if isinstance(owner, (list, tuple, set, frozenset)):
        return list(owner)
    if isinstance(owner, types.MethodType):
        return [owner.__self__]
    if isinstance(owner, functools.partial):
        return [owner.func, *owner.args, *owner.keywords.values()]
    if isinstance(owner, types.FunctionType):
        return [cell.cell_contents for cell in owner.__closure__ or () if cell != _EMPTY]
    return [] if isinstance(owner, Tensor) else list(getattr(owner, "__dict__", {}).values())


def _carry_tensors(owner: object, device: str) -> None:
    """Move the tensors that are an object's attributes."""
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if isinstance(value, Tensor) and not isinstance(owner, Tensor):
            object.__setattr__(owner, name, value.to(device))
