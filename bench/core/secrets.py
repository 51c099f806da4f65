"""Secrets out of texts: what is stored or shown names no password, whoever wrote the text.

A secret is the value of a variable of the environment whose name says so, the password in an
address (https://user:password@host), or what an address gives under a name such as `token`.
"""

from __future__ import annotations

import os
import re

NAMES = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|(API|ACCESS|ACCOUNT)_?KEY", re.IGNORECASE
)
"""Of variables whose values nobody should read."""

SHORTEST = 8
"""Characters of a value that is looked for: shorter ones stand in texts by chance."""

PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
GIVEN = re.compile(
    r"([?&][\w.-]*(?:token|secret|passw|key|sig|credential)[\w.-]*=)[^&\s\"'<>)]+", re.IGNORECASE
)
HIDDEN = "***"


def redacted(text: str) -> str:
    """The text, with each secret in it replaced by three asterisks."""
    for value in secrets():
        text = text.replace(value, HIDDEN)
    text = PASSWORD.sub(rf"\1{HIDDEN}@", text)
    return GIVEN.sub(rf"\1{HIDDEN}", text)


def secrets() -> list[str]:
    """Values of the environment that are secret by name, the longest first.

    Those that are names of files or folders are none: they say where a secret lies.
    """
    found = {value for name, value in os.environ.items() if NAMES.search(name)}
    plain = {value for value in found if value.startswith(("/", "./", "~"))}
    return sorted((v for v in found - plain if len(v) >= SHORTEST), key=lambda v: (-len(v), v))
