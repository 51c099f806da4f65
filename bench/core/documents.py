"""YAML as people write it: one reader for suites, presets and values of the command line.

PyYAML follows YAML 1.1, in which `1e-2` is a string: the same number in another spelling then gives
another cell id, or another study.  Here every spelling of a number is a number (YAML 1.2).
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?"
    r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
"""PyYAML's, with a mantissa that needs no point and an exponent that needs no sign."""


class Loader(yaml.SafeLoader):
    """The safe loader, whose floats are those of YAML 1.2."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:float"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def read_yaml(text: str) -> Any:
    """The document; raises `yaml.YAMLError` where it is none."""
    return yaml.load(text, Loader=Loader)  # derived from SafeLoader


def not_finite(value: Any) -> float | None:
    """The first number in a value, lists and mappings included, that is infinite or NaN."""
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return next((bad for each in value if (bad := not_finite(each)) is not None), None)
    return None
