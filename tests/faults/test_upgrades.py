"""A plugin that is upgraded while a run is going on, or between two of its commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.worlds.cheap_run import CONTENT

METHOD = """
from bench.api import Method, Samples, Work
from pathlib import Path

class Own(Method):
    '''Adds a constant; the first cell writes the next release of this file.'''

    version = "1"

    def work(self, spec):
        return Work()

    def sample(self, problem, n):
        file = Path("own.py")
        if "ADDED = 0.0" in file.read_text() and Path("upgrade").exists():
            new = file.read_text().replace("ADDED = 0.0", "ADDED = 1.0")
            partial = Path("own.py.new")
            partial.write_text(new)
            partial.replace(file)
        return Samples(problem.x0() + ADDED)

ADDED = 0.0
"""


def drive(folder, executor):
    command = [sys.executable, "-m", "bench", "run", "suite.yaml", "--root", ".", "--no-track"]
    done = subprocess.run(
        [*command, "--executor", executor, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def samples(folder):
    import hashlib

    found = {}
    for path in folder.glob("cheap/cells/*/attempts/*/samples.safetensors"):
        found[path.parts[-4]] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_a_run_ends_with_the_plugin_that_it_began_with(tmp_path):
    """Also in a process that is started later; the next command knows that it is another one."""
    folders = [tmp_path / name for name in ("plain", "inline", "process")]
    for folder in folders:
        folder.mkdir()
        (folder / "own.py").write_text(METHOD)
        content = {**CONTENT, "methods": ["own.py:Own"], "seeds": 3}
        (folder / "suite.yaml").write_text(json.dumps(content))
        if folder.name != "plain":
            (folder / "upgrade").touch()
    told = {
        folder.name: drive(folder, folder.name.replace("plain", "inline")) for folder in folders
    }
    assert all(each["executed"] == 3 and each["statuses"] == {"ok": 3} for each in told.values())
    plain, *upgraded = [samples(folder) for folder in folders]
    assert len(plain) == 3 and all(found == plain for found in upgraded)
    (folders[1] / "upgrade").unlink()
    again = drive(folders[1], "inline")
    assert again["executed"] == 3, "samples of the old code would be shown as those of the new"
    after = samples(folders[1])
    assert len(after) == 6 and plain.items() <= after.items()
    assert set(plain.values()).isdisjoint(after[cell] for cell in after.keys() - plain.keys())
