"""Commands in a real terminal, of their own session, where Ctrl-C is a key."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Terminal:
    """A command in a pseudo-terminal.

    Args:
        command: the arguments of `bench`.
        folder: its working directory.
    """

    def __init__(self, command: list[str], folder: Path) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.getcwd(), "COLUMNS": "200"},  # noqa: PTH109
            start_new_session=True,
            preexec_fn=_own_terminal,
        )
        os.close(slave)
        self.text = ""

    def until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait, while reading what is written."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, f"not within {seconds} s:\n{self.text}"
            assert self.process.poll() is None, f"it ended:\n{self.text}"
            self._read(0.1)

    def press_ctrl_c(self) -> None:
        """The key; the terminal sends SIGINT to everything in its foreground."""
        os.write(self._master, b"\x03")

    def end(self, seconds: float) -> tuple[int, str, float]:
        """(exit code, everything written, seconds until the end)."""
        start = time.monotonic()
        while self.process.poll() is None and time.monotonic() < start + seconds:
            self._read(0.1)
        took = time.monotonic() - start
        if self.process.poll() is None:
            self.process.kill()
            raise AssertionError(f"did not end within {seconds} s:\n{self.text}")
        while self._read(0.1):
            pass
        os.close(self._master)
        return self.process.returncode, self.text, took

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody writes to it any more
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def _own_terminal() -> Any:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
