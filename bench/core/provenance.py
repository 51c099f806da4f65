"""What a cell was made with beside its packages: the commit of a checkout, and the processor."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 5.0
"""Seconds that git may take; of a larger wait nothing is said."""


@cache
def commit() -> str:
    """The commit of the checkout that runs, with `-dirty` where files differ.

    "" for an installed package, whose version says as much, and where there is no git.
    """
    if not (ROOT / ".git").exists():
        return ""
    asked = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(
            [*asked, "--exclude=*"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def processor() -> str:
    """The model of the processor, where the system tells; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
