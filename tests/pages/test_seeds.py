"""A page that names a suite and a number of seeds names the suite's number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SUITES = ROOT / "bench" / "plan" / "suites"
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "ten": 10}
TOLD = re.compile(
    r"[Ss]uite `([\w-]+)`[^.|]{0,120}?\b(one|two|three|four|five|ten|\d+) seeds?\b"
    r"|\b([Oo]ne|[Tt]wo|[Tt]hree|[Ff]our|[Ff]ive|[Tt]en|\d+) seeds?\b[^.|]{0,120}?suite `([\w-]+)`"
)
REPEATED = re.compile(r"over (\d+) repetitions")


def told(text: str) -> list[tuple[str, int]]:
    """Suites and the numbers of seeds that stand beside them in one sentence."""
    found = ((a or d, (b or c).lower()) for a, b, c, d in TOLD.findall(text))
    return [(suite, NUMBERS.get(word) or int(word)) for suite, word in found]


def seeds_of(suite: str) -> set[int]:
    """Of a suite: its own, and those that blocks have instead."""
    content = yaml.safe_load((SUITES / f"{suite}.yaml").read_text(encoding="utf-8"))
    blocks = [content, *content.get("blocks", [])]
    return {block["seeds"] for block in blocks if "seeds" in block}


PAGES = [
    (page.name, suite, number)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for suite, number in told(page.read_text(encoding="utf-8"))
]


def test_there_are_such_pages() -> None:
    assert {name for name, _, _ in PAGES} >= {"gibbs.md", "shapes.md", "compute.md"}


@pytest.mark.parametrize(("page", "suite", "number"), PAGES)
def test_a_page_names_the_seeds_of_its_suite(page: str, suite: str, number: int) -> None:
    assert number in seeds_of(suite)


@pytest.mark.parametrize("table", sorted((ROOT / "results").glob("*.md")), ids=lambda f: f.stem)
def test_a_table_has_the_seeds_of_its_suite(table: Path) -> None:
    counts = {int(k) for k in REPEATED.findall(table.read_text(encoding="utf-8"))}
    assert not counts or counts <= seeds_of(table.stem)


def test_a_wrong_number_would_be_found() -> None:
    text = (
        "every method, four seeds, n = 512 (suite `moves`, tables there). Suite `hacking`, 5 seeds"
    )
    assert told(text) == [("moves", 4), ("hacking", 5)]
    assert 4 not in seeds_of("moves")
