"""The site has every page in its menu, and every link of a page goes to something that is there.

`make docs` builds it with warnings as errors; this needs no mkdocs.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
PAGES = [ROOT / "README.md", *(ROOT / name for name in OUTSIDE), *sorted(ROOT.glob("docs/*.md"))]


def entries(menu: Any) -> Iterator[str]:
    """The files of a menu, at any depth."""
    if isinstance(menu, str):
        yield menu
    for item in menu.values() if isinstance(menu, dict) else menu if isinstance(menu, list) else ():
        yield from entries(item)


def anchors(page: Path) -> set[str]:
    """What can stand behind # in a link to a page: its headings as GitHub and mkdocs write them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", text).strip().lower().replace(" ", "-") for text in found}


def test_every_page_is_in_the_menu_once():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    results = {f"results/{path.name}" for path in ROOT.glob("results/*.md")}
    docs = {path.name for path in ROOT.glob("docs/*.md")}
    assert sorted(entries(menu)) == sorted({"index.md", *OUTSIDE, *docs, *results})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_goes_somewhere(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    for link in (link for link in links if not link.startswith(("http", "mailto"))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
