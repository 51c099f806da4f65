"""Parameters that name an entry of a table: the table says what is allowed, and in which words."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from bench.core.params import param


def summary_of(entry: object) -> str:
    """What an entry says of itself: its `summary`, or else the first line of its docstring."""
    summary = getattr(entry, "summary", "")
    if isinstance(summary, str) and summary:
        return summary
    return (inspect.getdoc(entry) or "").partition("\n")[0].rstrip(".")


def named_param(
    default: str,
    table: Mapping[str, Any],
    about: str = "",
    *,
    only: Collection[str] = (),
    searched: bool = False,
    tunable: bool = True,
) -> Any:
    """A field of Params whose values are the names of `table`, or those of them in `only`.

    The help text is `about` and what every entry says of itself.  A sweep goes through the names
    if `searched`, else only where it is told to.
    """
    names = tuple(name for name in table if not only or name in only)
    listed = "; ".join(f"{name}: {summary_of(table[name])}" for name in names)
    said = f"{about}; {listed}" if about else listed
    return param(default, choices=names, searched=searched, tunable=tunable, help=said)
