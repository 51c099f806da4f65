"""The processes below one of ours, as /proc has them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def below(parent: int) -> dict[int, list[str]]:
    """The words of the command of every process below one, by number."""
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            words = (process / "stat").read_text().rpartition(")")[2].split()
            parents[int(process.name)] = int(words[1])
    found, fresh = set[int](), {parent}
    while fresh:
        fresh = {pid for pid, own in parents.items() if own in fresh} - found
        found |= fresh
    return {pid: words for pid in sorted(found) if (words := _words(pid))}


def _words(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []
