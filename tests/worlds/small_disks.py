"""Commands on a small disk of their own: a tmpfs that only they see, gone when they have ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCH = f"{sys.executable} -m bench"


def on_a_disk(folder: Path, script: str, size: str) -> tuple[int, str]:
    """(exit code, everything said) of a shell script in which ./disk is so large.

    A namespace of mounts needs no rights of root; `grow` and `freeze` are commands of the script.
    """
    (folder / "disk").mkdir()
    mount = f"mount -t tmpfs -o size={size} none {folder}/disk"
    remount = f"mount -o remount,{{}} {folder}/disk"
    lines = [
        "set -e",
        mount,
        "set +e",
        f"grow() {{ {remount.format('size=64m')}; }}",
        f"freeze() {{ {remount.format('ro')}; }}",
        f'bench() {{ {BENCH} "$@" 2>&1; echo "code $?"; }}',
        script,
    ]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "\n".join(lines)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout
