"""What a check may say, and the checks that every kind of plugin shares."""

from __future__ import annotations

import dataclasses
import inspect
import random
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.core.params import UserError, build, range_of

S = TypeVar("S")
Check = Callable[[S], None]

CHECK_TOLERANCE = 1e-4
"""What rounding may change when only the batch size does, relative to the largest entry."""

CHECK_ROWS = 8
"""Rows with which flows and rewards are asked."""

UNUSUAL = 742_619_358
"""A seed for the global generators that nobody else uses."""


class Broken(Exception):
    """A contract is broken; the message says how, in one sentence."""


class Skipped(Exception):
    """There is nothing to check; the message says why."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check on one task."""

    check: str
    where: str
    status: Literal["pass", "fail", "skip"]
    reason: str = ""
    contract: str = ""


def expect(holds: bool, otherwise: str) -> None:
    """Raise Broken with the sentence `otherwise` unless it holds."""
    if not holds:
        raise Broken(otherwise)


def examine(prepare: Callable[[], S], checks: Sequence[Check[S]], where: str) -> list[Finding]:
    """Run every check; when the first fails, the others would only repeat it and are skipped.

    `prepare` makes the subject; what it raises becomes the outcome of the first check.
    """
    first, *others = checks
    subject: list[S] = []

    def gate() -> None:
        subject.append(prepare())
        first(subject[0])

    opened = _outcome(gate, first, where)
    if not subject:
        return [opened]
    if opened.status == "pass":
        return [opened, *(_outcome(partial(c, subject[0]), c, where) for c in others)]
    reason = f"because '{opened.check}' failed" if opened.status == "fail" else opened.reason
    return [opened, *(Finding(_name(check), where, "skip", reason) for check in others)]


def _outcome(run: Callable[[], None], check: Check[S], where: str) -> Finding:
    name, contract = _name(check), inspect.getdoc(check) or ""
    try:
        run()
    except Broken as error:
        return Finding(name, where, "fail", str(error), contract)
    except Skipped as error:
        return Finding(name, where, "skip", str(error), contract)
    except UserError as error:
        return Finding(name, where, "fail", str(error), contract)
    except Exception as error:  # the boundary: whatever a plugin raises is a finding
        return Finding(name, where, "fail", f"it raised {one_line(error)}", contract)
    return Finding(name, where, "pass", "", contract)


def _name(check: Callable[..., None]) -> str:
    return check.__name__.replace("_", " ")


def one_line(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def check_params(cls: type[Any], search_ranges: bool) -> None:
    """Params is a frozen dataclass whose defaults are valid; tunable numbers declare a range."""
    params = cls.Params
    expect(
        dataclasses.is_dataclass(params) and _frozen(params),
        f"Params must be a frozen dataclass, and {params.__name__} is not",
    )
    for field in dataclasses.fields(params):
        expect(
            field.default is not dataclasses.MISSING,
            f"the parameter '{field.name}' has no default: give one with param(...)",
        )
        if search_ranges:
            _check_searchable(params, field.name)
    try:
        build(params, {f.name: f.default for f in dataclasses.fields(params)}, "its default")
    except UserError as error:
        raise Broken(f"a default is not valid: {error}") from error


def _frozen(params: Any) -> bool:
    return bool(params.__dataclass_params__.frozen)


def _check_searchable(params: type[Any], name: str) -> None:
    """A tunable int or float declares low and high, or choices: they are the search range."""
    declared, hint = range_of(params, name), typing.get_type_hints(params)[name]
    bounded = declared.low is not None and declared.high is not None
    if hint in (int, float) and declared.tunable and not bounded:
        expect(
            declared.choices is not None,
            f"the parameter '{name}' has no range: declare low and high in param(...), "
            "or tunable=False",
        )


@contextmanager
def globals_kept(drawing: bool = False) -> Iterator[None]:
    """Raise Broken if the block changes state that all plugins of a process share.

    drawing: it may draw from torch's generator, as every module of torch does for its first
    weights, but not seed it.
    """
    with _unusual_generators():
        before = _globals(drawing)
        yield
        changed = [name for name, value in _globals(drawing).items() if value != before[name]]
    expect(
        not changed,
        f"it changed {' and '.join(changed)}; draw from problem.noise or from a generator "
        "of your own",
    )


@contextmanager
def _unusual_generators() -> Iterator[None]:
    """Global generators in a state that no fixed seed of a plugin leads to; restored afterwards."""
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(UNUSUAL)
    np.random.seed(UNUSUAL)  # noqa: NPY002  # the global state is the point
    torch.manual_seed(UNUSUAL)
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])  # noqa: NPY002
        torch.set_rng_state(saved[2])


def _globals(drawing: bool) -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    state = torch.initial_seed() if drawing else bytes(torch.get_rng_state().numpy())
    return {
        "torch's global random state": state,
        "numpy's global random state": (numpy_state[1].tobytes(), numpy_state[2]),
        "Python's global random state": random.getstate(),
        "the default dtype": torch.get_default_dtype(),
        "the gradient mode": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
    }


def check_tensor(what: str, x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise Broken unless x is float32, of this shape and finite."""
    expect(isinstance(x, Tensor), f"{what} must be a tensor, not {type(x).__name__}")
    expect(tuple(x.shape) == shape, f"{what} must have shape {shape}, not {tuple(x.shape)}")
    expect(x.dtype == torch.float32, f"{what} must be float32, not {str(x.dtype)[6:]}")
    bad = int((~torch.isfinite(x)).sum())
    expect(not bad, f"{what} must be finite, and {bad} of {x.numel()} entries are not")


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest entry (at least 1)."""
    scale = max(1.0, float(a.detach().abs().max()))
    return float((a - b).detach().abs().max()) / scale
