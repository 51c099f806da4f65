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


LARGEST = 16 * 2**20
"""Characters of a document at the most."""

DEEPEST = 40
"""Levels of a document at the most."""

MOST_NODES = 1_000_000
"""Values of a document at the most, with everything that aliases repeat."""


def read_yaml(text: str) -> Any:
    """The document; raises `yaml.YAMLError` where it is none, or beyond all measure."""
    if len(text) > LARGEST:
        raise yaml.YAMLError(f"it has {len(text)} characters, and {LARGEST} are the most")
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded(node, {}, 0)
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError(f"it is nested in more than {DEEPEST} levels") from None
    except Exception as error:  # PyYAML's own: dates that are none, numbers that are too long
        raise yaml.YAMLError(f"a value cannot be read ({error})") from error
    finally:
        loader.dispose()


def _expanded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Values in a node, those of aliases as often as they are repeated."""
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested in more than {DEEPEST} levels")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        known[id(node)] = 1 + sum(_expanded(each, known, depth + 1) for each in inner)
    if known[id(node)] > MOST_NODES:
        raise yaml.YAMLError(f"it holds more than {MOST_NODES} values, aliases written out")
    return known[id(node)]


def not_finite(value: Any) -> float | None:
    """The first number in a value, lists and mappings included, that is infinite or NaN."""
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return next((bad for each in value if (bad := not_finite(each)) is not None), None)
    return None
