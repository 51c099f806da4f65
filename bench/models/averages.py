"""Which of the weights in a training's file are meant, and their names without wrappers.

A moving average is what is sampled from, and trainers keep it under many names: beside the raw
weights ("model", "ema"), among them ("model.x", "ema_model.x", or "model_ema.x" with the dots left
out), or in a callback.  It is taken wherever it stands, or the file is refused; raw weights are
taken where there is no average.  Nothing here looks at a tensor's values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.core.params import UserError

State = Mapping[str, Tensor]

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts that data parallelism and compilation put anywhere into a tensor's name."""
PREFIXES = ("model", "dit")
"""Parts of the authors' own that precede a tensor's name."""
CONTAINERS = ("state_dict", "model", "model_state_dict", "module", "net", "shadow", "params")
"""Where files keep weights that nobody calls an average."""

AVERAGES = frozenset({"ema", "averaged", "average", "avg", "swa", "shadow", "polyak"})
"""Words in the name of a moving average; with `MOMENTS` beside them they are an optimiser's."""
MOMENTS = frozenset({"exp", "sq"})
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
COUNTERS = frozenset({"n_averaged", "decay", "num_updates", "updates", "step", "steps", "initted"})
"""Numbers that an average carries besides its weights."""
FIXED = frozenset({"pos_embed", "latents_scale", "latents_bias"})
"""Tensors that are not trained, so that an average may lack them."""


@dataclass(frozen=True)
class Chosen:
    """Tensors under bare names, and what people have to know of the choice."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def bare_names(state: State, prefixes: tuple[str, ...] = PREFIXES) -> dict[str, Tensor]:
    """The same tensors without the names of wrappers; two that coincide are a UserError."""
    bare: dict[str, Tensor] = {}
    for full, value in state.items():
        name = ".".join(_bare(str(full).split("."), prefixes))
        if name in bare:
            raise UserError(f"the checkpoint holds '{name}' twice, under different prefixes")
        bare[name] = value
    return bare


def _bare(parts: list[str], prefixes: tuple[str, ...]) -> list[str]:
    parts = [part for part in parts if part not in WRAPPERS] or parts
    while len(parts) > 1 and parts[0] in prefixes:
        parts = parts[1:]
    return parts


def is_average(name: str) -> bool:
    """Whether a container's or a module's name says that it holds a moving average."""
    words = {word.lower() for word in WORD.findall(name)}
    return bool(words & AVERAGES) and not words & MOMENTS


# -- in the containers of a file -------------------------------------------------------------------


def choose(content: Any, prefixes: tuple[str, ...] = PREFIXES) -> Chosen | None:
    """The average where there is one, else the weights; None where there are neither.

    prefixes: parts to take off the beginning of names.  Raises UserError where an average cannot be
    told from another, or from the raw weights.
    """
    if not isinstance(content, Mapping):
        return None
    if _is_state(content):
        return _among(content, prefixes)
    averages = dict(_averages(content))
    raw = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
    if len(averages) > 1:
        raise UserError(
            f"it holds the averages {', '.join(averages)}, and nothing says which is meant: save "
            "one of them alone"
        )
    plain = choose(content[raw], prefixes) if raw is not None else None
    if not averages:
        alone = (f"the weights under '{raw}' were taken; the file has no moving average",)
        return plain and Chosen(plain.tensors, plain.notes or alone)
    ((key, value),) = averages.items()
    found = choose(_without_counters(value), prefixes)
    if found is None:
        raise UserError(
            f"a moving average stands under '{key}' without the names of its tensors, so it can be "
            "taken neither by itself nor instead of the raw weights: save a dict of names and "
            "tensors"
        )
    taken = f"the moving average under '{key}' was taken"
    if plain is None or raw is None:
        return Chosen(found.tensors, (taken,))
    full = _paired(found.tensors, plain.tensors, f"'{key}'", f"'{raw}'")
    return Chosen(full, (f"{taken}, not the raw weights under '{raw}'",))


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _without_counters(value: Any) -> Any:
    """An average without the numbers beside its tensors."""
    if not isinstance(value, Mapping):
        return value
    kept = {
        key: part
        for key, part in value.items()
        if not (str(key) in COUNTERS and (not isinstance(part, Tensor) or part.dim() == 0))
    }
    numbers = (bool, int, float, str, type(None))
    return {key: part for key, part in kept.items() if not isinstance(part, numbers)}


def _averages(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(name with its path, value) of whatever is called an average and holds tensors."""
    inside: Any = ()
    if isinstance(content, Mapping):
        inside = () if _is_state(content) else content.items()
    elif isinstance(content, list | tuple):
        inside = enumerate(content)
    for key, value in inside:
        at = f"{path}{key}"
        if is_average(str(key)) and _holds_tensors(value):
            yield at, value
        else:
            yield from _averages(value, f"{at}/")


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(part, Tensor) or _holds_tensors(part) for part in value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(part, Tensor) or _holds_tensors(part) for part in value)
    return False


# -- among the names of one state dict -------------------------------------------------------------


def _among(state: State, prefixes: tuple[str, ...]) -> Chosen:
    """The average whose tensors stand among the raw weights', by their names."""
    averaged: dict[str, dict[str, Tensor]] = {}
    raw: dict[str, Tensor] = {}
    for name, value in state.items():
        parts = str(name).split(".")
        k = next((k for k, part in enumerate(parts[:-1]) if is_average(part)), None)
        if k is None:
            raw[name] = value
        elif not (parts[-1] in COUNTERS and value.dim() == 0):
            rest = ".".join(parts[:k] + parts[k + 1 :])
            averaged.setdefault(".".join(parts[: k + 1]), {})[rest] = value
    raw = {name: v for name, v in raw.items() if not (averaged and name in COUNTERS)}
    if len(averaged) > 1:
        raise UserError(
            f"it holds the averages {', '.join(averaged)}, and nothing says which is meant: save "
            "one of them alone"
        )
    if not averaged:
        return Chosen(bare_names(raw, prefixes))
    ((key, found),) = averaged.items()
    if not raw:
        return Chosen(
            bare_names(found, prefixes), (f"the moving average under '{key}.' was taken",)
        )
    mean, now = bare_names(found, prefixes), bare_names(raw, prefixes)
    full = _paired(mean, now, f"'{key}.'", "other names")
    taken = f"the moving average under '{key}.' was taken, not the raw weights beside it"
    return Chosen(full, (taken,))


def _paired(average: State, raw: State, where: str, beside: str) -> dict[str, Tensor]:
    """The average under the names of the raw weights, which it must all have but `FIXED`.

    Names are compared without dots and without leading prefixes, as some averages leave them out.
    """
    dotless = {_dotless(name): name for name in average}
    full: dict[str, Tensor] = {}
    for name, value in raw.items():
        own = dotless.get(_dotless(name))
        if own is None and name not in FIXED:
            raise UserError(
                f"the average under {where} has no tensor {name}, which the raw weights under "
                f"{beside} have: save the average alone, under their names"
            )
        full[name] = value if own is None else average[own]
    known = {dotless[key] for key in map(_dotless, raw) if key in dotless}
    return {**full, **{name: average[name] for name in average.keys() - known}}


def _dotless(name: str) -> str:
    text = name.replace(".", "")
    for prefix in PREFIXES:
        text = text.removeprefix(prefix)
    return text
