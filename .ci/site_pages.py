"""A hook of mkdocs: the site holds pages from outside docs/, and links between all of them hold.

Pages are written for readers of the repository, where a link goes to a file beside them.  Here
README.md becomes the site's first page, what is outside docs/ keeps its path, and a linked file of
source is shown as it is.  A link to a folder goes to its README, or becomes plain words if it has
none.  A link to nothing is left, so that mkdocs warns of it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md"} | {
    name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
ELSEWHERE = ("http://", "https://", "mailto:", "#")

Known = dict[str, str]
"""The path in the site of a path in the repository."""

_known: Known = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and every file that a page links to."""
    results = {f"results/{p.name}": f"results/{p.name}" for p in (ROOT / "results").glob("*.md")}
    for place, source in {**PAGES, **results}.items():
        _add(files, config, place, source)
    _known.update({f"docs/{file.src_uri}": file.src_uri for file in files if not file.generated_by})
    for source in list(_known):
        if source.endswith(".md"):
            for target in _targets(source):
                if target not in _known and (ROOT / target).is_file():
                    _add(files, config, _place(target), target)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The page with its links turned to where their targets are in the site."""
    place = page.file.src_uri
    source = next((own for own, there in _known.items() if there == place), None)
    if source is None:  # a page that another hook made
        return markdown
    return LINK.sub(lambda found: _link(found, source, place), markdown)


def _add(files: Files, config: MkDocsConfig, place: str, source: str) -> None:
    content = (ROOT / source).read_bytes()
    files.append(File.generated(config, place, content=content))
    _known[source] = place


def _place(source: str) -> str:
    """A linked file's own; a page that is in no menu is shown as the text that it is."""
    return f"{source}.txt" if source.endswith(".md") else source


def _targets(source: str) -> list[str]:
    text = (ROOT / source).read_text(encoding="utf-8")
    return [_target(source, link) for _, _, link in LINK.findall(text)]


def _target(source: str, link: str) -> str:
    """The path in the repository that a link goes to; of a folder, its README."""
    path, _, _ = link.partition("#")
    if not path or link.startswith(ELSEWHERE):
        return ""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    inside = f"{target}/README.md"
    return inside if (ROOT / inside).is_file() else target


def _link(found: re.Match[str], source: str, place: str) -> str:
    picture, words, link = found.groups()
    target, (_, mark, anchor) = _target(source, link), link.partition("#")
    if target in _known:
        relative = os.path.relpath(_known[target], posixpath.dirname(place) or ".")
        return f"{picture}[{words}]({relative}{mark}{anchor})"
    return words if target and (ROOT / target).is_dir() else found.group(0)
