"""A hook of mkdocs: pages that are made from the code, a page per method and the API reference.

What `bench list methods NAME` shows is what a method's page says: docstring, declared fields and
parameters.  The reference follows the subjects of `bench/api.py`, whose comments name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from bench.cli.describing import Described, described
from bench.core import plugins

ROOT = Path(__file__).parents[1]
FAMILIES = {
    "steering": "Steering",
    "search": "Search and resampling",
    "particles": "Monte Carlo",
    "finetuning": "Fine-tuning",
    "reference": "References",
}
"""Sections of the menu by the package of `methods` that a class lies in."""

FROM_PYTHON = (
    "bench.notebook.comparing.compare",
    "bench.tasks.velocity.from_velocity",
    "bench.notebook.result.Comparison",
    "bench.notebook.result.Best",
    "bench.notebook.result.Report",
)
"""What `from bench import compare, from_velocity` gives, and what these return."""

UNREAD = ("WIDE", "plugins", "quadratic")
"""Names without a docstring of their own: half of a pair of constants, and two modules."""

Pages = dict[str, str]
"""Markdown by place in the site."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The menu with a section for methods and one for the reference, before the measured pages."""
    listed = [
        {title: [f"methods/{name}.md" for name in _members(package)]}
        for package, title in FAMILIES.items()
    ]
    made: list[Any] = [
        {"Methods": ["methods/index.md", *listed]},
        {"Reference": [{"bench": "reference/bench.md"}, {"bench.api": "reference/api.md"}]},
    ]
    menu: list[Any] = config.nav or []
    place = next((k for k, item in enumerate(menu) if "Where it runs" in item), len(menu))
    config.nav = [*menu[:place], *made, *menu[place:]]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for place, text in {**_methods(), **_reference()}.items():
        files.append(File.generated(config, place, content=text))
    return files


def _family(name: str) -> str:
    return str(plugins.load("methods", name).__module__).split(".")[1]


def _members(package: str) -> list[str]:
    return [name for name in sorted(_ours()) if _family(name) == package]


def _ours() -> list[str]:
    """Methods of this package: what else is installed beside it is not documented here."""
    found = plugins.describe("methods")
    return [each.name for each in found if each.distribution == "tiltbench"]


# -- methods ---------------------------------------------------------------------------------------


def _methods() -> Pages:
    pages = {f"methods/{name}.md": _page(described("methods", name)) for name in _ours()}
    return {"methods/index.md": _overview(), **pages}


def _overview() -> str:
    lines = [
        "# Methods",
        "",
        "Each page is what `bench list methods NAME` shows.",
    ]
    for package, title in FAMILIES.items():
        lines += ["", f"## {title}", "", "| method | what it does | standing |", "|---|---|---|"]
        for name in _members(package):
            cls = plugins.load("methods", name)
            lines.append(f"| [{name}]({name}.md) | {_cell(cls.summary)} | {cls.standing} |")
    return "\n".join(lines) + "\n"


def _page(method: Described) -> str:
    """Formula, source, bias and cost stand in the docstring; when it applies, in its fields."""
    cls = plugins.load("methods", method.name)
    head, _, body = method.doc.partition("\n")
    lines = [f"# {method.name}", "", _prose(f"**{head}**"), "", _prose(body.strip())]
    lines += ["", "## When it can be used", ""]
    lines += [f"- **{key}**: {_prose(value)}" for key, value in method.spelled()]
    if method.effort:
        lines.append(f"- **buys compute with**: {', '.join(f'`{key}`' for key in method.effort)}")
    lines += ["", "## Parameters", "", *_parameters(method)]
    where = f"{cls.__module__.replace('.', '/')}.py"
    lines += ["", f"In the code: `{cls.__name__}` of `{where}`."]
    return "\n".join(lines) + "\n"


def _parameters(method: Described) -> Iterator[str]:
    if not method.parameters:
        yield "None."
        return
    yield from ("| parameter | default | allowed | |", "|---|---|---|---|")
    for row in method.parameters:
        about = _cell(str(row["help"]))
        yield f"| `{row['name']}` | `{row['default']}` | {_cell(str(row['range']))} | {about} |"


def _cell(text: str) -> str:
    """Text inside a table."""
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    """Formulas of docstrings as they are: a star multiplies, and a bracket is no tag or link."""
    bold, text = text.startswith("**"), text.strip("*") if text.startswith("**") else text
    text = re.sub(r"(?<!`)([*<\[\]])(?!`)", r"\\\1", text)
    return f"**{text}**" if bold else text


# -- reference -------------------------------------------------------------------------------------


def _reference() -> Pages:
    told = "`from bench import compare, from_velocity`, and what they return."
    python = ["# bench", "", told, "", *(f"::: {name}\n" for name in FROM_PYTHON)]
    return {"reference/bench.md": "\n".join(python), "reference/api.md": _api()}


def _api() -> str:
    """Every name of `bench.api`, below the subject under which it is imported there."""
    source = (ROOT / "bench" / "api.py").read_text(encoding="utf-8")
    told = source.split('"""')[1].partition("\n")[0]
    lines = ["# bench.api", "", told, ""]
    lines += ["```python", "from bench.api import Method, Samples, param", "```", ""]
    for subject, names in _subjects(source):
        lines += [f"## {subject[0].upper()}{subject[1:]}", ""]
        lines += [f"::: bench.api.{name}\n" for name in names if name not in UNREAD]
        lines += [f"Also: `{name}`.\n" for name in names if name in UNREAD]
    return "\n".join(lines)


def _subjects(source: str) -> Iterator[tuple[str, list[str]]]:
    """(comment, names imported below it), in the order of the file."""
    imports = source.split("__all__")[0].split('"""')[2]
    for part in re.split(r"^# (?!isort)", imports, flags=re.MULTILINE)[1:]:
        subject, _, code = part.partition("\n")
        inside = re.findall(r"import (?:\(([^)]*)\)|(.*))", code)
        names = re.findall(r"\w+", " ".join(a or b for a, b in inside))
        yield subject, names
