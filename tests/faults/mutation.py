"""Bytes with a few faults, from a seed."""

from __future__ import annotations

import random

PIECES = (
    b"[", b"{", b"]", b"}", b": ", b"- ", b"&a ", b"*a", b"!!int ", b"!!python/name:os ", b"<<: ",
    b"\xff", b"\x00", b"\x1b[31m", b"\t", b"\n", b"9" * 5000, b"1e999", b".nan", b"2001-13-41",
    b"'", b'"', b"|", b">", b"%", b"@", b"null", b"[" * 300, b"../../x", "\u202e".encode(), b"5",
)  # fmt: skip
"""What is put into a text."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few pieces cut, doubled, put in or flipped."""
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        data = rng.choice(
            (
                data[:at] + data[to:],
                data[:to] + data[at:],
                data[:at] + rng.choice(PIECES) + data[at:],
                data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            )
        )
    return data
