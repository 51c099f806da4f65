"""What a condition says, and to whom: a label, a sentence, None, or a mapping of several of them.

    {"label": 281, "text": "a photograph of a tabby cat"}

is a label for the network and a sentence for whoever scores the picture.  A plain condition is the
same for both.  Conditions are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.core.params import UserError

LABEL, TEXT = "label", "text"


def label_of(condition: Any) -> Any:
    """What a class-conditional network hears; UserError for a mapping without a label."""
    return _part(condition, LABEL)


def sentence_of(condition: Any) -> Any:
    """What rewards read; UserError for a mapping without a text."""
    return _part(condition, TEXT)


def spelled(condition: Any) -> str:
    """The condition in tables and in the names of random streams; "" for None.

    A mapping is written as JSON with sorted keys, so that equal ones are written alike.
    """
    if isinstance(condition, Mapping):
        return json.dumps(condition, sort_keys=True, ensure_ascii=False)
    return "" if condition is None else str(condition)


def _part(condition: Any, key: str) -> Any:
    if not isinstance(condition, Mapping):
        return condition
    if key not in condition:
        raise UserError(f"the condition {spelled(condition)} has no '{key}': add one to it")
    return condition[key]
