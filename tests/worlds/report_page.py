"""The report of the invented run: its page, its source and its summary."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.data.entries import summarise
from reports.data.run import load_run
from reports.data.summary import Summary
from reports.html import write_page
from tests.worlds.made_run import make_run


class Page(HTMLParser):
    """The tags and attributes of a page, and its text without scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.inputs: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.silent = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.inputs += [found] if tag == "input" else []
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        self.silent += tag in ("script", "style")

    def handle_endtag(self, tag) -> None:
        self.silent -= tag in ("script", "style")

    def handle_data(self, data) -> None:
        self.words += [] if self.silent else [data]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("reports") / "quickstart")


@pytest.fixture(scope="module")
def source(run: Path) -> str:
    return write_page(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


@pytest.fixture(scope="module")
def summary(run: Path) -> Summary:
    loaded = load_run(run)
    return summarise(loaded.cells, loaded.metrics)
