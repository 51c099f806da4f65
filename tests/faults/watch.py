"""A watch on what is written: nothing outside the one folder that may be written to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
TARGETS = {
    "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.truncate": 0, "os.chmod": 0,
    "os.rename": 1, "os.link": 1, "os.symlink": 1, "shutil.rmtree": 0,
}  # fmt: skip
"""Events of the interpreter, and which of their arguments says what is changed."""

DEVICES = ("/dev/", "/proc/")
"""No files, though they are opened like these."""


class Watch:
    """Paths outside `allowed` that Python opens to write, makes, renames or removes.

    The interpreter tells of them (PEP 578), wherever they are; what a library in C writes itself is
    found by a listing of the folder around, and of the working directory.
    """

    def __init__(self, allowed: Path) -> None:
        self.allowed = allowed.resolve()
        self.outside: list[str] = []
        self._on = False
        sys.addaudithook(self._heard)  # for good: there is no way to take one out

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while this is open."""
        before = self._around()
        self._on = True
        try:
            yield
        finally:
            self._on = False
            changed = self._around().items() ^ before.items()
            self.outside += sorted({name for name, _ in changed})

    def _around(self) -> dict[str, tuple[int, int]]:
        places = {self.allowed.parent, Path.cwd()}
        found = (entry for place in places for entry in os.scandir(place))
        known = (e for e in found if e.path != str(self.allowed) and e.name != "__pycache__")
        return {e.path: self._state(e) for e in known}

    @staticmethod
    def _state(entry: os.DirEntry[str]) -> tuple[int, int]:
        """Of a folder that it is there: others compile modules of the working directory."""
        told = entry.stat()
        return (0, 0) if entry.is_dir() else (told.st_size, told.st_mtime_ns)

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open" and not (isinstance(given[2], int) and given[2] & WRITING):
            return
        at = 0 if event == "open" else TARGETS.get(event)
        if at is None or isinstance(given[at], int):
            return
        path = os.path.realpath(os.fsdecode(given[at]))
        if not path.startswith((f"{self.allowed}/", *DEVICES)) and path != str(self.allowed):
            self.outside.append(f"{event} {path}")
