"""Checksums: a stored file says what it should read as, and what reads otherwise is damaged.

A record in JSON carries its own, over the canonical form of all other keys; the files beside a
result are named with theirs in it.  Records from before there were checksums carry none: they are
read, as far as they can be, and nobody vouches for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core.cells import canonical
from bench.record import layout

SEAL = "sha256"
"""The key of a record that holds its checksum."""


class Damaged(ValueError):
    """What was read is not what was written."""


@dataclass(frozen=True)
class Damage:
    """A file of a run that is not what was written, and what is wrong with it."""

    file: str
    why: str

    def __str__(self) -> str:
        return f"{self.file} {self.why}"


def left_out(damaged: Sequence[Damage]) -> str:
    """What a page or a tracker does without, and how to have it again; "" if nothing is damaged.

    A file may have been asked for more than once.
    """
    if not damaged:
        return ""
    first, others = damaged[0], len({damage.file for damage in damaged}) - 1
    again = "remove it and repeat the command that made it"
    if first.file.startswith(f"{layout.CELLS}/"):
        folder = first.file.rpartition("/")[0]
        again = f"remove its folder ({folder}) and repeat the run's command"
    more = {0: "", 1: ", and so is one more file"}.get(others, f", and so are {others} more files")
    return (
        f"Damaged: {first}{more}. What is damaged is left out, of pictures, curves and marks; "
        f"metrics were measured before and stand. To have it again, {again}."
    )


def checksum(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def seal_of(content: Mapping[str, Any]) -> str:
    """The checksum of a record: that of its canonical JSON."""
    return checksum(canonical(dict(content)).encode())


def sealed(content: Mapping[str, Any]) -> bytes:
    """JSON of a record, with its checksum."""
    # Read back first: what JSON makes of a key or a number is what is vouched for.
    plain = json.loads(json.dumps(dict(content)))
    return json.dumps({**plain, SEAL: seal_of(plain)}, sort_keys=True).encode()


def unsealed(data: bytes) -> tuple[dict[str, Any], str | None]:
    """A record and its checksum, None in one from before; raises Damaged if they disagree."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged("is no JSON") from error
    if not isinstance(content, dict):
        raise Damaged("is no record")
    seal = content.pop(SEAL, None)
    if seal is not None and seal != seal_of(content):
        raise Damaged("does not match its checksum")
    return content, seal


def verified(data: bytes, told: str | None) -> bytes:
    """The data, if they have the checksum that was told, or none was; raises Damaged."""
    if told is not None and checksum(data) != told:
        raise Damaged("does not match its checksum")
    return data
