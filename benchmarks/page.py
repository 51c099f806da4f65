"""How long the report of an invented run takes, and how large it is, chapter by chapter.

    python -m benchmarks.page [PROBLEMS METHODS BUDGETS SEEDS]

Processor seconds, from stored tables to the file; and, where there is a Chromium, seconds from the
start of opening the file until its first table is unfolded, sorted by a click and laid out.
Promised: 10,000 cells (8 25 5 10) in under 20 s on two cores, under 6 MB, sorted in under 2 s.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import seconds
from reports.html import write_page
from tests.worlds.browser import Browser, executable, launched
from tests.worlds.large_run import large_run

PROMISED = (8, 25, 5, 10)
OPENINGS = 5
SORTED = """
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.headline");
  const sort = () => {
    const heads = table.querySelectorAll("button.sort");
    if (!heads.length) return setTimeout(sort);
    heads[1].click();
    table.getBoundingClientRect();
    window.seconds = performance.now() / 1000;
  };
  table.closest("details").open = true;
  sort();
});
"""
"""In the page itself: `performance.now` counts from the start of the navigation."""
SECTION = re.compile(r'<section id="([^"]+)">(.*?)</section>', re.DOTALL)


def main(sizes: list[int]) -> None:
    """Make the run, write its page, print."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        cells = large_run(folder, *sizes)
        spent = seconds(lambda: write_page(folder))
        opened = openings(folder / "report.html")
        text = (folder / "report.html").read_text(encoding="utf-8")
    print(f"{cells:,} cells: {spent:.1f} s of processor time, {len(text.encode()) / 1e6:.2f} MB")
    if opened:
        print(
            f"a sorted table after {min(opened):.2f} to {max(opened):.2f} s ({OPENINGS} openings)"
        )
    for chapter, content in SECTION.findall(text):
        print(f"  {chapter:12} {len(content.encode()) / 1e3:8,.0f} kB")


def openings(file: Path) -> list[float]:
    """Seconds until a table is sorted, of several readers; none without a browser."""
    if executable() is None:
        return []
    with launched() as browser:
        return [_opening(browser, file) for _ in range(OPENINGS)]


def _opening(browser: Browser, file: Path) -> float:
    with browser.open(file, before=SORTED) as opened:
        opened.page.wait_for_function("window.seconds")
        return float(opened.page.evaluate("window.seconds"))


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(PROMISED))
