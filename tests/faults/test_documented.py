"""The page on faults says what the code does."""

from pathlib import Path

from bench.core import documents
from bench.runner.executors import ray, ray_watch
from bench.runner.limits import GRACE
from bench.runner.output import SHOWN

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_figures_of_the_page_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    waits = [ray.BACK_OFF * 2**k for k in range(ray.ROUNDS - 1)]
    assert waits == [2, 4, 8] and "after 2, 4 and 8 s" in text
    assert f"twice its `seconds` and {GRACE:g} s" in text
    assert f"{SHOWN >> 10} KiB of a cell are shown" in text
    assert f"({ray_watch.ELSEWHERE:g} s where the head is another machine)" in text
    assert f"size ({documents.LARGEST >> 20} MiB), depth ({documents.DEEPEST})" in text
