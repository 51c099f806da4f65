"""A chapter of the page is a module and a template, and nothing else knows of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader

import reports
from reports import chapter, html
from reports.chapter import Chapter, all_chapters

FOLDER = Path(reports.__file__).parent


def test_every_chapter_has_its_template_and_every_template_its_chapter() -> None:
    templates = {file.stem for file in (FOLDER / "templates" / "chapters").glob("*.html")}
    assert templates == set(all_chapters())


def test_no_two_chapters_claim_one_place() -> None:
    places = [found.place for found in all_chapters().values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", all_chapters())
def test_no_other_file_names_a_chapter(name: str) -> None:
    """So that a new one touches two files."""
    imports = re.compile(rf"reports\.chapters\.{name}\b|reports\.chapters import.*\b{name}\b")
    page = (FOLDER / "templates" / "report.html").read_text(encoding="utf-8")
    assert f"chapters/{name}" not in page
    found = [f for f in FOLDER.rglob("*.py") if imports.search(f.read_text(encoding="utf-8"))]
    assert not found


def test_a_chapter_without_content_is_left_out(tmp_path: Path, monkeypatch) -> None:
    made = {"more": Chapter(15, "More", lambda material: {"word": f"of {material.run.name}"})}
    made["none"] = Chapter(16, "None of it", lambda material: None)
    monkeypatch.setattr(chapter, "all_chapters", lambda: made)
    extra = DictLoader({"chapters/more.html": "<p>{{ it.word }}</p>\n"})
    plain = html.FileSystemLoader
    monkeypatch.setattr(html, "FileSystemLoader", lambda f: ChoiceLoader([extra, plain(f)]))
    source = html.write_page(tmp_path).read_text(encoding="utf-8")
    assert f"<h2>More</h2>\n<p>of {tmp_path.name}</p>\n</section>" in source
    assert '<a href="#more">More</a>' in source
    assert "None of it" not in source


def test_templates_are_part_of_the_package() -> None:
    root = FOLDER.parent
    declared = re.search(r"reports = \[(.*)\]", (root / "pyproject.toml").read_text())
    assert declared is not None
    patterns = re.findall(r'"([^"]+)"', declared[1])
    packed = {file for pattern in patterns for file in FOLDER.glob(pattern) if file.is_file()}
    data = (file for folder in ("templates", "claims") for file in (FOLDER / folder).rglob("*"))
    assert packed == {file for file in data if file.is_file()}
