"""How people's functions are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

CONDITION = "condition"


def hears_condition(function: Callable[..., Any], others: int) -> bool:
    """Whether a function takes the condition after `others` arguments.

    It does if its next parameter has no default or is called `condition`; a default of another name
    (`lambda x, scale=2.0: ...`) is its own affair.
    """
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):  # of C
        return False
    taken = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    after = taken[others : others + 1]
    return any(p.default is p.empty or p.name == CONDITION for p in after)
