"""Figures as SVG to be put into the page: byte-identical from run to run, no outside references."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import seaborn as sns
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

INK, FAINT = "#333333", "#b9b9b9"

STYLE = {
    "text.parse_math": False,
    "svg.hashsalt": "tiltbench",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "figure.dpi": 72.0,
    "savefig.facecolor": "none",
}


STYLED = re.compile(r'(<\w+[^<>]*?) style="([^"<>]*)"')
BETWEEN = re.compile(r">\s*\n\s*<")
STEPS = re.compile(r" ?\n(?=[A-Za-z])")
IDS = re.compile(r' id="([^"<>]*)"')
USED = re.compile(r'(?:href="#|url\(#)([^")]+)')
PLACES = re.compile(r'\b(?:d|x|y|points|transform|width|height)="[^"]*"')
FINE = re.compile(r"(\d\.\d\d)\d+")
PICTURE = re.compile(r"data:image/png;base64,([^\"]*)")


def styled() -> AbstractContextManager[None]:
    """The matplotlib settings of all figures, for a `with` block."""
    settings: Any = {**sns.axes_style("ticks"), **STYLE}
    return matplotlib.rc_context(settings)


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows of `columns`, each width x height inches."""
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axis in axes:
        sns.despine(ax=axis, left=True)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """To a file of its own, of the kind that its ending says; the same bytes every time."""
    nothing: Any = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None}
    with styled():
        figure.savefig(path, dpi=170, metadata=nothing)


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """The figure's <svg> element; `name` keeps its ids apart from those of other figures.

    alt: what it shows, and where its values are, for those who do not see it.
    """
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", dpi=170, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # HTML needs no namespaces, and without them the page names no address at all.
    text = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", text)
    # A hundredth of a point is finer than any screen; letters and pictures are left alone.
    text = PLACES.sub(lambda found: STEPS.sub("", FINE.sub(r"\1", found[0])), text)
    text = PICTURE.sub(lambda found: _of_few_colours(found[1]), text)
    text = _by_class(_without_unused_ids(BETWEEN.sub("><", text)))
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


def _of_few_colours(encoded: str) -> str:
    """A PNG of dots as one with a palette of 256 colours, a third of its size."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    return as_uri(picture.quantize(256, method=Image.Quantize.FASTOCTREE), "png", optimize=True)


def as_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    """A picture as a data URI; options are those of Pillow's encoder of that kind."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def _without_unused_ids(text: str) -> str:
    """Without the names that nothing in the figure refers to."""
    used = set(USED.findall(text))
    return IDS.sub(lambda found: found[0] if found[1] in used else "", text)


def _by_class(text: str) -> str:
    """Every style is said once, as a class of the same name in all figures that have it."""
    rules: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        name = "f" + hashlib.sha256(found[2].encode()).hexdigest()[:8]
        rules[name] = f".{name}{{{found[2]}}}"
        return f'{found[1]} class="{name}"'

    text = STYLED.sub(named, text)
    return text.replace("</style>", "".join(rules.values()) + "</style>", 1) if rules else text
