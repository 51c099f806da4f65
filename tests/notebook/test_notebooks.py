"""The notebooks of examples/ and the page on Python run as they are, in the time they promise."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.worlds.notebooks import code_lines, run_cells
from tests.worlds.patience import allowed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
MOONS = ROOT / "examples" / "two-moons.ipynb"
METHODS = ("prior", "best-of-n", "dps", "fk", "svdd")


def run(notebook: Path, folder: Path) -> tuple[list[str], str]:
    """What its cells show, and what it says of its progress."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.worlds.notebooks", str(notebook)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_two_moons_from_a_network_to_a_decision(tmp_path):
    """Five methods, a lambda as reward, 2 minutes, 25 lines; run again, it computes nothing."""
    assert len(code_lines(MOONS)) <= 25
    started = time.perf_counter()
    shown, said = run(MOONS, tmp_path)
    assert time.perf_counter() - started < allowed(120)
    *_, table, best, report = shown
    assert "15 cells on 1 worker" in said
    assert all(f"<td>{method}</td>" in table for method in METHODS)
    assert table.count("<td>ok</td>") == len(METHODS)
    assert best.startswith("At `paper-nfe=100` the lowest mmd2-tilted is that of")
    assert "<iframe srcdoc=" in report and "best-of-n" in report

    again, said = run(MOONS, tmp_path)
    assert "Nothing to do: all 15 cells are stored" in said
    assert again[3] == best


def test_the_page_on_python_does_what_it_says(tmp_path):
    shown, _ = run(PAGE, tmp_path)
    report, fields, _, own, again = shown
    assert "<iframe srcdoc=" in report and fields.startswith("('dps:guidance=2', (")
    assert "FiveSteps" in own and again == ""


def test_cells_share_a_namespace_and_show_their_last_expression():
    assert run_cells(["a = 3", "b = a\nb + 1", "# nothing\nb"]) == ["", "4", "3"]
