"""What a plugin prints while its cell runs: shown on stderr, and only so much of it.

stdout is for tables and for `--json`.  A method that prints a line per step would fill terminals,
logs of workers and disks on a grid of thousands of cells.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import Connection
from typing import TextIO

SHOWN = 2**16
"""Characters of a cell that are shown."""

REST = "\n... whatever else this cell prints is left out\n"


class Bounded(io.TextIOBase):
    """A stream that passes its first characters on and counts all of them."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self.count = stream, 0

    def writable(self) -> bool:
        """As `print` asks."""
        return True

    def write(self, text: str) -> int:
        """Pass on what is still to be shown; a terminal that is gone is no error of a plugin."""
        left = SHOWN - self.count
        self.count += len(text)
        if left > 0 and self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text[:left] + (REST if len(text) > left else ""))
        return len(text)

    def flush(self) -> None:
        """Pass on."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()

    def __str__(self) -> str:
        """How much there was, for the record; "" where all of it was shown."""
        return "" if self.count <= SHOWN else f"{self.count} characters, {SHOWN} of them shown"


@contextmanager
def bounded_output() -> Iterator[Bounded]:
    """Bound what Python prints in this process, on either stream."""
    stream = Bounded(sys.stderr)
    with redirect_stdout(stream), redirect_stderr(stream):
        yield stream


def take_descriptors(output: Connection) -> None:
    """Let whatever this process and its children write to stdout and stderr go to the driver."""
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()


def forward(output: Connection) -> Bounded:
    """Show the first of what comes from another process, and swallow the rest, until it ends.

    Whoever hands that process another cell sets the count of what is returned to 0.
    """
    stream = Bounded(sys.stderr)
    threading.Thread(target=_forward, args=(output, stream), daemon=True).start()
    return stream


def _forward(output: Connection, stream: Bounded) -> None:
    with suppress(OSError), output:
        while data := os.read(output.fileno(), SHOWN):
            stream.write(data.decode(errors="replace"))
            stream.flush()
