"""Names that become folders, and texts of anybody as a terminal may show them."""

from __future__ import annotations

import re

RESERVED = ("presets", "mlartifacts")
"""Folders beside the runs."""

LONGEST = 200
"""Characters of a name at the most; file systems allow 255 bytes."""


def safe_name(name: str) -> str:
    """The name of a run, if it is one folder and nothing else; ValueError says what is wrong."""
    if not name.strip() or name.strip(".") == "" or name in RESERVED or name != name.strip():
        raise ValueError(f"{name!r} cannot be the name of a run")
    if re.search(r"[/\\\x00-\x1f\x7f-\x9f]", name):
        raise ValueError(f"{name!r} holds a separator of paths or a control character")
    if len(name.encode(errors="replace")) > LONGEST:
        raise ValueError(f"a name of {len(name)} characters is too long for a folder")
    return name


def printable(text: str) -> str:
    """A text whose control characters, which a terminal would obey, are written out."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
