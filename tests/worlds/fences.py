"""A page's fenced blocks, and what its prose has in code letters."""

from __future__ import annotations

import re

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELL = ("", "sh")
"""Languages of a block that is typed; a block of another kind names its own (`text`, `yaml`)."""


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [body for language, body in FENCE.findall(text) if language in languages]


def inline(text: str) -> list[str]:
    """What a page's prose has in code letters."""
    return INLINE.findall(FENCE.sub("", text))
