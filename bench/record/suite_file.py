"""The suite that a run was made of, as it is stored beside its cells."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from bench.core.documents import read_yaml


class _Block(BaseModel):
    """What every reader of a stored suite counts on; releases differ in the rest."""

    model_config = ConfigDict(extra="allow", strict=True)

    tasks: list[str]
    judges: dict[str, list[str]] = {}


class _Suite(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    name: str = ""
    blocks: list[_Block] = []


def read_suite(text: str) -> dict[str, Any]:
    """A stored suite; raises ValueError for what is none."""
    try:
        content: dict[str, Any] = read_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    _Suite.model_validate(content)  # what it raises is a ValueError
    return content
