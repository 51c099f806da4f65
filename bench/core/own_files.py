"""Small files of JSON that we wrote: read, or one sentence that says what mends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.core.params import UserError


def own_json(path: Path, mend: str) -> dict[str, Any]:
    """An object of JSON that we wrote; UserError says that it is damaged, and what mends it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): {mend}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged (it holds no object): {mend}")
    return found
