"""A method that prints a hundred megabytes: shown in part, counted, kept nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bench.runner.output import REST, SHOWN, Bounded
from tests.worlds.cheap_run import CONTENT

METHOD = """
import os, sys
from bench.api import Method, Samples, Work

LINE = "x" * 9_999 + "\\n"

class Flood(Method):
    '''Prints without end.'''

    def work(self, spec):
        return Work()

    def sample(self, problem, n):
        for _ in range(5_000):
            sys.stdout.write(LINE)
            sys.stderr.write(LINE)
        for descriptor in (1, 2):
            for _ in range(DESCRIPTORS):
                os.write(descriptor, LINE.encode())
        return Samples(problem.x0())
"""


@pytest.mark.parametrize(("executor", "lines"), [("inline", 0), ("process", 5000), ("ray", 5000)])
def test_a_flood_is_shown_in_part(tmp_path, executor, lines):
    """By `print` and, where a cell has a process of its own, by writing to its descriptors too."""
    (tmp_path / "flood.py").write_text(METHOD.replace("DESCRIPTORS", str(lines)))
    content = {**CONTENT, "methods": ["flood.py:Flood"], "seeds": 1}
    (tmp_path / "suite.yaml").write_text(json.dumps(content))
    with tempfile.TemporaryDirectory(prefix="f-", dir="/tmp") as scratch:
        own = {"PYTHONPATH": os.getcwd(), "RAY_TMPDIR": scratch}  # noqa: PTH109
        command = [sys.executable, "-m", "bench", "run", "suite.yaml", "--root", ".", "--json"]
        done = subprocess.run(
            [*command, "--no-track", "--executor", executor, "--workers", "1"],
            cwd=tmp_path,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
        )
        kept = sum(path.stat().st_size for path in Path(scratch).rglob("*.*") if path.is_file())
    assert done.returncode == 0 and json.loads(done.stdout)["statuses"] == {"ok": 1}, done.stderr
    assert len(done.stderr) < 3 * SHOWN and kept < 9e7
    assert executor == "ray" or REST in done.stderr
    (result,) = tmp_path.glob("cheap/cells/*/attempts/*/result.json")
    said = json.loads(result.read_text())["machine"]["printed"]
    assert said == f"100000000 characters, {SHOWN} of them shown"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2**22


def test_a_few_lines_are_shown_whole_and_a_closed_stream_is_no_error():
    import io

    shown = io.StringIO()
    stream = Bounded(shown)
    print("a line", file=stream, flush=True)
    assert shown.getvalue() == "a line\n" and str(stream) == ""
    shown.close()
    print("another", file=stream, flush=True)
    print("a third", file=Bounded(None), flush=True)
