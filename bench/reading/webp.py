"""Whether a WebP file is compressed with losses."""

from __future__ import annotations

import struct


def is_lossy_webp(data: bytes) -> bool:
    """A chunk "VP8 " holds a lossy picture, "VP8L" one without losses (RFC 9649, section 2).

    After the 12 bytes of the RIFF header, chunks have 4 letters, a length and an even size.
    """
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name in (b"VP8 ", b"VP8L"):
            return bool(name == b"VP8 ")
        at += 8 + size + size % 2
    return True
