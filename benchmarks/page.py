"""How long the report of an invented run takes, and how large it is, chapter by chapter.

    python -m benchmarks.page [PROBLEMS METHODS BUDGETS SEEDS]

Processor seconds, from stored tables to the file.  Promised: 10,000 cells (8 25 5 10) in under 20 s
on two cores, under 6 MB.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import seconds
from reports.html import write_page
from tests.worlds.large_run import large_run

PROMISED = (8, 25, 5, 10)
SECTION = re.compile(r'<section id="([^"]+)">(.*?)</section>', re.DOTALL)


def main(sizes: list[int]) -> None:
    """Make the run, write its page, print."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        cells = large_run(folder, *sizes)
        spent = seconds(lambda: write_page(folder))
        text = (folder / "report.html").read_text(encoding="utf-8")
    print(f"{cells:,} cells: {spent:.1f} s of processor time, {len(text.encode()) / 1e6:.2f} MB")
    for chapter, content in SECTION.findall(text):
        print(f"  {chapter:12} {len(content.encode()) / 1e3:8,.0f} kB")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(PROMISED))
