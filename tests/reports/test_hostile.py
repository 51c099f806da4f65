"""Whatever stands in names, errors and prompts is text on the page, and large runs are one page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from reports.data.run import load_run
from reports.html import page_text, write_page
from tests.worlds.large_run import large_run
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page

NASTY = {
    "markup": '</script><script>alert(1)</script><img src=x onerror="alert(2)">',
    "quotes": 'it\'s "quoted" & `ticked` {{ 7*7 }} {% raw %}',
    "emoji": "👩\u200d🚀 🏳️\u200d🌈 🤖",
    "right to left": "שלום \u202eאבג\u202c العالم",
    "control": "a\x00b\x1b[31mred",
    "formula": "=HYPERLINK(1)",
    "long": "x" * 10_000,
}


class Tags(HTMLParser):
    """Which tags and event handlers there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def nasty(folder: Path, text: str) -> Path:
    """A run in which a method, a prompt, a task, a reward and an error read like that."""
    make_run(folder, tasks=("digits",), rewards=("class-mixture",))
    cells = pd.read_parquet(folder / "cells.parquet")
    dps, failed = cells["method"] == "dps", cells["status"] == "failed"
    cells = cells.assign(
        method=cells["method"].where(~dps, text),
        method_summary=text,
        task_summary=text,
        reason=cells["reason"].where(~failed, text),
        condition=text,
        reward=f"prompt:text={text}",
    )
    cells.to_parquet(folder / "cells.parquet")
    metrics = pd.read_parquet(folder / "metrics.parquet")
    metrics.assign(note=metrics["note"].where(metrics["metric"] != "judge", text)).to_parquet(
        folder / "metrics.parquet"
    )
    (folder / "suite.yaml").write_text(json.dumps({"name": text}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = nasty(tmp_path_factory.mktemp("plain") / "run", "harmless")
    return Tags(page_text(load_run(folder))).tags


@pytest.mark.parametrize("kind", NASTY)
def test_hostile_text_is_text(tmp_path: Path, kind: str, harmless: list[str]) -> None:
    text = NASTY[kind]
    source = write_page(nasty(tmp_path / "run", text)).read_text(encoding="utf-8")
    found = Tags(source)
    assert set(found.tags) == set(harmless), "no tag but those of a harmless run"
    assert found.tags.count("script") == harmless.count("script")
    assert not found.handlers
    assert "49" not in re.findall(r"quoted.{0,40}", source)
    shown = " ".join(text.replace("\x00", "").replace("`", "").split())
    plain = " ".join(Page(source).text.replace("\x00", "").replace("`", "").split())
    assert shown[:60] in plain, "and it can be read"
    for data in re.findall(r'class="pairs">(.*?)</script>', source):
        assert isinstance(json.loads(data), list)


def test_a_long_name_does_not_widen_the_picture(tmp_path: Path) -> None:
    source = write_page(nasty(tmp_path / "run", NASTY["long"])).read_text(encoding="utf-8")
    picture = source[source.index('<svg role="img" class="answer"') :]
    labels = re.findall(r'<text class="name"[^>]*>([^<]*)<', picture[: picture.index("</svg>")])
    assert labels and all(len(label) <= 24 for label in labels)


@pytest.mark.slow
def test_ten_thousand_cells_are_one_page_of_six_megabytes_twice_the_same(tmp_path: Path) -> None:
    """Of 1,000 rows; `python -m benchmarks.page` says how long it takes."""
    assert large_run(tmp_path / "run", 8, 25, 5, 10) == 10_000
    first = page_text(load_run(tmp_path / "run"))
    assert len(first.encode()) < 6e6
    assert page_text(load_run(tmp_path / "run")) == first
