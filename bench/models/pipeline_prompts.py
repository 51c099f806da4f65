"""What the network of a pipeline is told of prompts: encoded once, kept, the encoders dropped."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import torch

from bench.core.conditions import RowConditions
from bench.core.devices import wide
from bench.core.params import UserError
from bench.core.protocols import Condition
from bench.models.pipeline_folder import PipelineFolder
from bench.models.pipeline_inputs import Asked, Config, Features, Told

Tell = Callable[[list[Condition]], list[Told]]
"""Conditions -> what the network is told of each."""


class Heard:
    """What a network is told of conditions, worked out once; copies of a flow share it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told: dict[str, Told] = {}
        self._table: tuple[Any, Told | None] = (None, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Heard:
        return self

    def learn(self, conditions: Iterable[Condition]) -> None:
        """Work out at once what is not known yet."""
        new = {_key(c): c for c in conditions if _key(c) not in self._told}
        if not new:
            return
        with wide():
            self._told |= dict(zip(new, self._tell(list(new.values())), strict=True))

    def of(self, condition: Condition, device: torch.device) -> Told:
        """What is told of a condition, moved once to where it is heard."""
        if condition is None:
            raise UserError("the network of a pipeline needs a condition: give a prompt or a class")
        self.learn([condition])
        told = self._told[_key(condition)]
        if next(iter(told.given.values())).device != device:
            told = Told(_moved(told.given, device), told.without and _moved(told.without, device))
            self._told[_key(condition)] = told
        return told

    def of_rows(self, conditions: RowConditions, device: torch.device) -> Told | None:
        """What every row (batch, ...) is told; None where conditions are told in several shapes."""
        asked = (*map(_key, conditions.conditions), str(device))
        if self._table[0] != asked:  # a run asks for the same conditions again and again
            each = [self.of(c, device) for c in conditions.conditions]
            self._table = asked, _stacked(each)
        table, index = self._table[1], conditions.index(device)
        return table and Told(
            _rows(table.given, index), table.without and _rows(table.without, index)
        )


def _stacked(each: list[Told]) -> Told | None:
    """(1, ...) of many conditions as (conditions, ...); None if their shapes differ."""
    given, without = [told.given for told in each], [told.without or {} for told in each]
    if any(len({_shapes(part) for part in parts}) > 1 for parts in (given, without)):
        return None
    joined = [{name: torch.cat([p[name] for p in ps]) for name in ps[0]} for ps in (given, without)]
    return Told(joined[0], joined[1] or None)


def _shapes(features: Features) -> tuple[Any, ...]:
    return tuple((name, tuple(value.shape)) for name, value in sorted(features.items()))


def _rows(features: Features, index: torch.Tensor) -> Features:
    return {name: value[index] for name, value in features.items()}


def _key(condition: Condition) -> str:
    return json.dumps(condition, sort_keys=True)


def _moved(features: Features, device: torch.device) -> Features:
    return {name: value.to(device) for name, value in features.items()}


@torch.no_grad()
def tell(folder: PipelineFolder, conditions: Iterable[Condition], asked: Asked) -> list[Told]:
    """What the network hears of each condition; text encoders live as long as this call."""
    pipe = None if folder.family.labels else _encoders(folder, asked.network)
    told = [folder.family.embed(pipe, c, asked) for c in conditions]
    del pipe
    gc.collect()
    return told


def _encoders(folder: PipelineFolder, config: Config) -> Any:
    """The pipeline without network and decoder."""
    absent = {
        name: None
        for name in folder.components
        if not name.startswith(("tokenizer", "text_encoder"))
    }
    pipe = folder.pipeline(**absent)
    # encoding asks the network for its widths, where an encoder is left out
    setattr(pipe, folder.family.network, SimpleNamespace(config=SimpleNamespace(**config)))
    return pipe


class Readers:
    """The tokenizers of a folder, and how much each reads of a sentence."""

    def __init__(self, folder: PipelineFolder) -> None:
        self._most: Mapping[str, int | None] = dict(folder.family.readers)
        self._tokenizers = {n: folder.tokenizer(n) for n in self._most if n in folder.parts}

    def cut(self, sentence: str) -> dict[str, int]:
        """Tokens that are not read, by tokenizer; empty if all are."""
        cut = {}
        for name, tokenizer in self._tokenizers.items():
            tokens = tokenizer(sentence, truncation=False, verbose=False).input_ids
            cut[name] = len(tokens) - (self._most[name] or tokenizer.model_max_length)
        return {name: tokens for name, tokens in cut.items() if tokens > 0}

    def doubt(self, sentence: str) -> str:
        """What is not read of a sentence, in words; "" if all is."""
        cut = (f"the last {tokens} by the {name}" for name, tokens in self.cut(sentence).items())
        said = ", ".join(cut)
        return f"tokens of '{sentence[:40]}...' are cut: {said}" if said else ""

    def require_read(self, sentences: Iterable[str]) -> None:
        """Raise UserError for the first sentence of which an encoder does not read all."""
        for sentence in sentences:
            cut = self.cut(sentence)
            if cut:
                name = max(cut, key=lambda name: cut[name])
                raise UserError(
                    f"the prompt '{sentence[:40]}...' is longer than its encoder reads: the last "
                    f"{cut[name]} tokens are cut by the {name}; shorten it, or say long_prompts=cut"
                )
